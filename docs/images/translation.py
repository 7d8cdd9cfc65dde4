"""Draw ``translation.png``: crops of photographs in gray, colored by an L1 loss and by pix2pix.

Run it from anywhere: ``python docs/images/translation.py``. It needs scikit-image. The crops that are shown are
of the right halves of the photographs, those to train on of the left halves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage import data

import visiongraft as vg
from visiongraft.plugins.translation.task import Translation

SIDE, SHOWN, SCALE = 64, 6, 2
TRAINED = 48
METHODS: dict[str, dict[str, Any]] = {
    "L1": {"task": Translation(channels=64, residual=True)},
    "L1, critic and perceptual loss": {
        "task": Translation(channels=64, residual=True, adversarial_loss="least_squares"),
        "transfer_loss": "perceptual",
    },
}


def crops(count: int, right: bool) -> list[Image.Image]:
    """Crop halves of three photographs at random."""
    random = np.random.default_rng(int(right))
    photos = (data.chelsea(), data.coffee(), data.astronaut())
    found = []
    for i in range(count):
        photo = photos[i % len(photos)]
        middle = photo.shape[1] // 2
        half = photo[:, middle:] if right else photo[:, :middle]
        side = int(random.integers(SIDE, 3 * SIDE))
        top, left = (int(random.integers(0, n - side)) for n in half.shape[:2])
        crop = Image.fromarray(half[top : top + side, left : left + side])
        found.append(crop.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return found


def main() -> None:
    """Train, measure and draw: inputs, what each method makes of them, and targets."""
    photos, shown = crops(TRAINED, right=False), crops(SHOWN, right=True)
    rows = [[photo.convert("L").convert("RGB") for photo in shown]]
    for name, settings in METHODS.items():
        model = vg.fit(
            [(photo.convert("L"), photo) for photo in photos],
            backbone="bundled/efficientnet_lite0",
            schedule="full(learning_rate=1e-3, layer_decay=1.0, batch_norm='train')",
            size=SIDE,
            batch_size=8,
            epochs=12,
            select="last",
            callbacks=(),
            **settings,
        )
        print(name, model.evaluate([(photo.convert("L"), photo) for photo in shown]))
        rows.append([Image.fromarray(one.image) for one in model.predict(rows[0])])
    rows.append(shown)
    canvas = Image.new("RGB", (SHOWN * SIDE, len(rows) * SIDE))
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            canvas.paste(image, (j * SIDE, i * SIDE))
    size = (canvas.width * SCALE, canvas.height * SCALE)
    large = canvas.resize(size, Image.Resampling.NEAREST)
    large.quantize(256).save(Path(__file__).with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    main()
