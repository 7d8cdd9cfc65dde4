"""Draw ``unpaired.png``: photographs in haze, what CycleGAN makes of them, and what they are without it.

Run it from anywhere: ``python docs/images/unpaired.py``. It needs scikit-image. The crops that are shown are of the
right halves of three photographs. Those to train on are of the left halves: half of them in haze, the others without.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from translation import SHOWN, crops

import visiongraft as vg
from visiongraft.plugins.translation.unpaired.task import UnpairedTranslation

SIDE, SCALE, TRAINED = 32, 4, 160
HAZE, THICKNESS = (217, 140, 64), 0.45


def hazed(photo: Image.Image) -> Image.Image:
    """Return a photograph behind a veil of one color."""
    return Image.blend(photo, Image.new("RGB", photo.size, HAZE), THICKNESS)


def main() -> None:
    """Train, measure and draw."""
    photos, shown = (
        [photo.resize((SIDE, SIDE)) for photo in crops(count, right)]
        for count, right in ((TRAINED, False), (SHOWN, True))
    )
    inputs = [hazed(photo) for photo in shown]
    model = vg.fit(
        {"a": [hazed(photo) for photo in photos[::2]], "b": photos[1::2]},
        task=UnpairedTranslation(channels=16, residual=True, features_size=SIDE),
        backbone="simple_cnn",
        weights=None,
        schedule="full(learning_rate=1e-3, layer_decay=1.0)",
        size=SIDE,
        batch_size=8,
        epochs=40,
        select="last",
        callbacks=(),
    )
    made = [Image.fromarray(one.image) for one in model.predict(inputs)]
    for name, images in (("in haze", inputs), ("made", made)):
        pairs = zip(images, shown, strict=True)
        errors = [np.square(np.asarray(a, float) - np.asarray(b)).mean() for a, b in pairs]
        print(name, f"{np.mean([10 * np.log10(255**2 / error) for error in errors]):.1f} dB")
    canvas = Image.new("RGB", (SHOWN * SIDE, 3 * SIDE))
    for i, row in enumerate((inputs, made, shown)):
        for j, image in enumerate(row):
            canvas.paste(image, (j * SIDE, i * SIDE))
    size = (canvas.width * SCALE, canvas.height * SCALE)
    large = canvas.resize(size, Image.Resampling.NEAREST)
    large.quantize(256).save(Path(__file__).with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    main()
