"""Draw ``generated_photographs.png``: what small networks make of 244 photographs in minutes.

Run it from anywhere: ``python docs/images/generated_photographs.py FOLDER``, with photographs below FOLDER/train and
FOLDER/val. The images that are shown are generated, a row for each training; distances to the validation images are
printed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

import visiongraft as vg
from visiongraft.plugins.generation.figures import write_grid
from visiongraft.plugins.generation.task import Generation
from visiongraft.plugins.image_sets.features import NETWORK, ImageSets

SIDE, SHOWN, FEATURES = 32, 14, 96
EPOCHS = 60

TRAININGS: dict[str, tuple[Generation, str, dict[str, Any]]] = {
    "autoencoder": (
        Generation("vae", features_size=FEATURES),
        "full(learning_rate=1e-3)",
        {"backbone": "generation/conv", "weights": None},
    ),
    "adversarial": (
        Generation("gan", features_size=FEATURES),
        "full(learning_rate=2e-4)",
        {"backbone": "generation/conv", "weights": None, "ema": 0.99},
    ),
    "adversarial, frozen pretrained critic": (
        Generation("gan", critic="maps", features_size=FEATURES),
        "linear_probe(learning_rate=2e-4)",
        {"backbone": NETWORK, "ema": 0.99},
    ),
}


def photographs(folder: Path) -> list[NDArray[np.uint8]]:
    """Read the square middles of all photographs below a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    images = (Image.open(path).convert("RGB") for path in paths)
    return [np.asarray(ImageOps.fit(image, (SIDE, SIDE))) for image in images]


def main(folder: Path) -> None:
    """Train, measure and draw."""
    training, validation = (photographs(folder / part) for part in ("train", "val"))
    shown = []
    for name, (task, schedule, settings) in {"": (None, "", {}), **TRAININGS}.items():
        began = time.process_time()
        if task is None:
            name, made = "the training images", training
        else:
            model = vg.fit(
                (training, validation[:2]),  # measured afterwards
                task=task,
                schedule=schedule,
                size=SIDE,
                epochs=EPOCHS,
                batch_size=16,
                select="last",
                workers=0,
                callbacks=(),
                **settings,
            )
            latents = model.task.inputs.draw(len(training), seed=0)
            made = [one.image for one in model.predict(latents)]
            shown += made[:SHOWN]
        seconds = time.process_time() - began
        sets = ImageSets(NETWORK, FEATURES)
        sets.add(made, validation)
        found = ", ".join(f"{key} {value:.3f}" for key, value in sets.compare().items())
        print(f"{name}: {found}; {seconds:.0f} s", flush=True)
        if task is not None:
            write_grid(Path(__file__).with_suffix(".png"), np.stack(shown), SHOWN)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
