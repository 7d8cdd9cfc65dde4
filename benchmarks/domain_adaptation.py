"""What domain adaptation gains: source only, each method, and an oracle with target labels.

    python benchmarks/domain_adaptation.py --data FOLDER [--results FILE.jsonl] [...]

FOLDER contains the datasets of the shifts, each with train/CLASS/ and val/CLASS/: mnist/ and
binaryalphadigs/ for the shift "digits", cifar10_small/ for the shift "colors", whose target domain is
the same kind of image with other colors and noise. Labels of the target's training images are used by
the oracle alone. Each cell trains a small network from scratch and measures the accuracy of the last
epoch on the target's val/, once: no epoch is chosen by it. Finished cells are appended to the results
and are not trained again; --limit N trains at most N cells. Afterwards it prints the table of all
finished cells: mean and standard error over seeds, in percent.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from cells import mean_and_error, train_cells
from numpy.typing import NDArray
from PIL import Image

import visiongraft

Items = list[tuple[NDArray[np.uint8], int]]

SHIFTS = {"digits": ("mnist", "binaryalphadigs"), "colors": ("cifar10_small", "cifar10_small")}
METHODS: dict[str, Any] = {
    "source": None,
    "coral": "coral",
    "coral(strength=1)": "coral(strength=1)",
    "dann": "dann",
    "dann(strength=1)": "dann(strength=1)",
    "cdan": "cdan",
    "cdan(strength=1)": "cdan(strength=1)",
    "mcc": "mcc",
    "adabn": "adabn",
    "oracle": None,
}
BACKBONES = ("simple_cnn", "timm/test_resnet")  # without and with batch norm
TINT = ((0.5, 0.0, 0.3), (0.2, 0.8, 0.0), (0.0, 0.3, 0.9))  # channels of the shifted colors
NOISE = 25.0  # standard deviation, of 255


@dataclass(frozen=True)
class Cell:
    """One training run.

    Attributes:
        shift: Name of the pair of domains.
        backbone: Name of the backbone.
        method: Name of the method, or a transfer loss with options.
        seed: Of the run.
    """

    shift: str
    backbone: str
    method: str
    seed: int


def read_images(folder: Path, most: int) -> Items:
    """Read the first images of each class, and their class ids."""
    items = []
    for label, name in enumerate(sorted(p.name for p in folder.iterdir() if p.is_dir())):
        for file in sorted((folder / name).iterdir())[:most]:
            items.append((np.asarray(Image.open(file).convert("RGB")), label))
    return items


def shifted(items: Items) -> Items:
    """Mix the color channels, and add noise to every pixel."""
    generator = np.random.default_rng(0)
    found = []
    for image, label in items:
        mixed = image @ np.asarray(TINT).T + generator.normal(0, NOISE, image.shape)
        found.append((mixed.clip(0, 255).astype(np.uint8), label))
    return found


def domains(data: Path, shift: str, most: int) -> tuple[Items, Items, Items]:
    """Return the source's training images, and the target's training and test images."""
    source, target = (data / name for name in SHIFTS[shift])
    images = [
        read_images(folder, most) for folder in (source / "train", target / "train", target / "val")
    ]
    if shift == "colors":
        images[1:] = [shifted(items) for items in images[1:]]
    return images[0], images[1], images[2]


def train(cell: Cell, given: argparse.Namespace) -> dict[str, Any]:
    """Train one cell and return its accuracy and time."""
    began = time.perf_counter()
    source, target, test = domains(Path(given.data), cell.shift, given.most)
    loss = METHODS.get(cell.method, cell.method)
    training = target if cell.method == "oracle" else source
    model = visiongraft.fit(
        (
            training,
            training[:: len(training) // 10],
        ),  # what is measured after each epoch is not used
        task="classification",
        task_options={"flip": False},
        backbone=cell.backbone,
        weights=None,
        size=given.size,
        resize="stretch",
        schedule=given.schedule,
        epochs=given.epochs,
        batch_size=given.batch_size,
        transfer_loss=loss,
        streams={"unlabelled": [image for image, _ in target]} if loss else None,
        seed=cell.seed,
        select="last",
        callbacks=(),
    )
    accuracy = model.evaluate(test)["accuracy"]
    return {"accuracy": accuracy, "seconds": round(time.perf_counter() - began, 1)}


def cells(given: argparse.Namespace) -> Iterator[Cell]:
    """Yield the cells of the table; those of one seed first, so that a part of it is useful."""
    for seed, shift, backbone, method in product(
        given.seeds, given.shifts, given.backbones, given.methods
    ):
        if method != "adabn" or backbone != "simple_cnn":
            yield Cell(shift, backbone, method, seed)


def table(found: dict[Cell, dict[str, Any]]) -> str:
    """Return mean and standard error over seeds, one row for each method."""
    shifts = list(dict.fromkeys((c.shift, c.backbone) for c in found))
    lines = [f"{'':24}" + "".join(f"{f'{shift}, {backbone}':>28}" for shift, backbone in shifts)]
    for method in dict.fromkeys(c.method for c in found):
        row = f"{method:24}"
        for pair in shifts:
            of_cell = (
                r for c, r in found.items() if (c.shift, c.backbone, c.method) == (*pair, method)
            )
            row += f"{mean_and_error([100 * r['accuracy'] for r in of_cell]):>28}"
        lines.append(row)
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data")
    parser.add_argument("--results", type=Path, default=Path("domain_adaptation.jsonl"))
    parser.add_argument("--schedule", default="full(learning_rate=1e-3, batch_norm='train')")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--most", type=int, default=60, help="images per class")
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--limit", type=int, default=sys.maxsize)
    parser.add_argument("--shifts", nargs="+", default=list(SHIFTS))
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    given = parser.parse_args(arguments)
    if given.data is None:
        print("domain_adaptation: pass --data FOLDER to measure something", file=sys.stderr)
        return
    found = train_cells(cells(given), lambda cell: train(cell, given), given.results, given.limit)
    print(table(found))


if __name__ == "__main__":
    main()
