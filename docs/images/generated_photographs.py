"""Draw ``generated_photographs.png``: what adversarial training makes of 244 photographs in 300 steps.

Run it from anywhere: ``python docs/images/generated_photographs.py FOLDER``, with photographs below FOLDER/train and
FOLDER/val. The images are generated, a row for each training; distances to the validation images are printed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

import visiongraft as vg
from visiongraft.plugins.generation.figures import write_grid
from visiongraft.plugins.generation.task import Generation
from visiongraft.plugins.image_sets.features import NETWORK, ImageSets

Images = list[NDArray[np.uint8]]

SIDE, SHOWN, FEATURES = 32, 14, 96
EPOCHS = 20  # of 15 steps

TRAININGS: dict[str, tuple[Generation, str, dict[str, Any]]] = {
    "from nothing": (
        Generation("gan", features_size=FEATURES),
        "full(learning_rate=2e-4)",
        {"backbone": "generation/conv", "weights": None},
    ),
    "frozen pretrained critic": (
        Generation("gan", critic="maps", features_size=FEATURES),
        "linear_probe(learning_rate=2e-4)",
        {"backbone": NETWORK},
    ),
}


def photographs(folder: Path) -> Images:
    """Read the square middles of all photographs below a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    images = (Image.open(path).convert("RGB") for path in paths)
    return [np.asarray(ImageOps.fit(image, (SIDE, SIDE))) for image in images]


def train(name: str, training: Images, validation: Images) -> Images:
    """Train one network, and draw as many images as it was trained on."""
    task, schedule, settings = TRAININGS[name]
    model = vg.fit(
        (training, validation[:2]),  # measured afterwards
        task=task,
        schedule=schedule,
        size=SIDE,
        epochs=EPOCHS,
        batch_size=16,
        ema=0.99,
        select="last",
        workers=0,
        callbacks=(),
        **settings,
    )
    latents = model.task.inputs.draw(len(training), seed=0)
    return [one.image for one in model.predict(latents)]


def report(name: str, images: Images, validation: Images) -> None:
    """Print how far images are from the validation images."""
    sets = ImageSets(NETWORK, FEATURES)
    sets.add(images, validation)
    print(name, *(f"{key} {value:.3f}" for key, value in sets.compare().items()), flush=True)


def draw(rows: Sequence[Images]) -> None:
    """Write the first images of each training."""
    shown = [image for images in rows for image in images[:SHOWN]]
    write_grid(Path(__file__).with_suffix(".png"), np.stack(shown), SHOWN)


def main(folder: Path) -> None:
    """Train, measure and draw."""
    training, validation = (photographs(folder / part) for part in ("train", "val"))
    report("the training images", training, validation)
    rows = []
    for name in TRAININGS:
        began = time.process_time()
        rows.append(train(name, training, validation))
        report(f"{name}, {time.process_time() - began:.0f} s:", rows[-1], validation)
    draw(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
