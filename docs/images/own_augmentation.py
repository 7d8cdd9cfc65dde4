"""Draw training images with an augmentation of the user's own, for the documentation.

Run from the root of the repository: ``python docs/images/own_augmentation.py``
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data
from torchvision.transforms import v2

import visiongraft as vg

OUT = Path(__file__).with_name("own-augmentation.png")
SIDE = 128


def write_photographs(folder: Path) -> Path:
    """Write crops of three photographs, a folder for each."""
    generator = np.random.default_rng(0)
    for name, photo in {
        "cat": data.chelsea(),
        "cup": data.coffee(),
        "face": data.astronaut(),
    }.items():
        (folder / name).mkdir()
        for number in range(6):
            top, left = (int(generator.integers(0, n - SIDE)) for n in photo.shape[:2])
            crop = photo[top : top + SIDE, left : left + SIDE]
            Image.fromarray(crop).save(folder / name / f"{number}.png")
    return folder


def main() -> None:
    """Draw the picture."""
    augment = v2.Compose(
        [v2.RandomHorizontalFlip(), v2.RandomRotation(20), v2.ColorJitter(0.4, 0.4)]
    )
    with tempfile.TemporaryDirectory() as folder:
        images = write_photographs(Path(folder))
        settings = {"task": "classification", "backbone": "simple_cnn", "weights": None}
        vg.show_batch(images, augment=augment, size=160, **settings).save(OUT, optimize=True)


if __name__ == "__main__":
    main()
