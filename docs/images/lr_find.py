"""Draw ``lr-find.png``: the learning-rate range test on crops of three photographs.

Run it from anywhere: ``python docs/images/lr_find.py``. It needs scikit-image.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

import visiongraft as vg


def write_crops(folder: Path, side: int = 64, count: int = 40) -> None:
    """Write a classification dataset of random crops."""
    generator = np.random.default_rng(0)
    photos = {"cat": data.chelsea(), "coffee": data.coffee(), "astronaut": data.astronaut()}
    for name, photo in photos.items():
        (folder / name).mkdir()
        for number in range(count):
            top, left = (int(generator.integers(0, n - side)) for n in photo.shape[:2])
            crop = Image.fromarray(photo[top : top + side, left : left + side])
            crop.save(folder / name / f"{number}.png")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        write_crops(Path(name))
        sweep = vg.lr_find(
            name,
            task="classification",
            backbone="simple_cnn",
            weights=None,
            size=32,
            schedule="full(batch_norm='train')",
            batch_size=16,
        )
    print(sweep)
    sweep.plot(Path(__file__).with_name("lr-find.png"))
