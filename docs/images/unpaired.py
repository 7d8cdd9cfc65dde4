"""Draw ``unpaired.png``: crops of photographs by day, what CycleGAN makes of them, and others by night.

Run it from anywhere: ``python docs/images/unpaired.py``. It needs scikit-image. Night is made by darkening and
by a blue tint, of the left halves of the photographs. Day is their right halves, so that no crop has a
counterpart; the crops that are shown are not trained on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from translation import SCALE, SHOWN, SIDE, TRAINED, crops

import visiongraft as vg
from visiongraft.plugins.translation.unpaired.task import UnpairedTranslation

NIGHT = (0.3, 0.4, 0.75)  # factors of red, green and blue


def by_night(photo: Image.Image) -> Image.Image:
    """Darken a photograph and tint it blue."""
    return Image.fromarray((np.asarray(photo) * NIGHT).astype(np.uint8))


def distance(images: list[Image.Image], days: list[Image.Image]) -> float:
    """Return the mean difference of images from crops by night, in 0..255."""
    made, wanted = (
        np.stack([np.asarray(one, float) for one in some]) for some in (images, map(by_night, days))
    )
    return float(np.abs(made - wanted).mean())


def main() -> None:
    """Train, measure and draw: inputs, what is made of them, and images of the other kind."""
    days = crops(TRAINED + SHOWN, right=True)
    nights = [by_night(photo) for photo in crops(TRAINED + SHOWN, right=False)]
    shown, others = days[TRAINED:], nights[TRAINED:]
    model = vg.fit(
        ({"a": days[:TRAINED], "b": nights[:TRAINED]}, {"a": shown, "b": others}),
        task=UnpairedTranslation(channels=32, residual=True, features_size=SIDE),
        backbone="bundled/efficientnet_lite0",
        schedule="full(learning_rate=5e-4, layer_decay=1.0, batch_norm='train')",
        size=SIDE,
        batch_size=8,
        epochs=10,
        select="last",
        callbacks=(),
    )
    made = [Image.fromarray(one.image) for one in model.predict(shown)]
    print("KID", model.facts["metrics"]["kid"])
    print("distance from the same crops by night, of what was made", distance(made, shown))
    print("and of the crops by day", distance(shown, shown))
    canvas = Image.new("RGB", (SHOWN * SIDE, 3 * SIDE))
    for i, row in enumerate((shown, made, others)):
        for j, image in enumerate(row):
            canvas.paste(image, (j * SIDE, i * SIDE))
    size = (canvas.width * SCALE, canvas.height * SCALE)
    canvas.resize(size, Image.Resampling.NEAREST).save(Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
