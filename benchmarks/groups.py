"""What training for groups gains the worst group, and costs the others, where a shortcut tells most labels.

    python benchmarks/groups.py DATA --work FOLDER --results FILE [--seeds N ...]

DATA is an image folder of two classes with train/ and val/. Each image gets a colored border: red for the first class and
blue for the second, but for one training image in ten, whose border is that of the other class. In val/ both borders are
equally frequent in both classes. The four groups are class and border. Linear heads on cached features of
bundled/efficientnet_lite0 at 96 pixels, 20 epochs; the last epoch and that of the best worst group.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cells import train_cells
from PIL import Image, ImageOps

import visiongraft

WAYS: Mapping[str, str | None] = {
    "each image alike": None,
    "reweight": "reweight",
    "group_dro": "group_dro(step_size=0.05)",
}
SELECTS = {"last": "last", "best worst group": "highest(validation.worst_group_accuracy)"}
COLORS = ("red", "blue")
SIZE, BORDER = 96, 14


@dataclass(frozen=True)
class Cell:
    """One training."""

    data: str
    way: str
    select: str
    seed: int


def write_data(source: Path, folder: Path) -> tuple[Path, Path]:
    """Write images with borders and a table of each split, and return the tables."""
    tables = []
    names = sorted(path.name for path in (source / "train").iterdir() if path.is_dir())
    for split in ("train", "val"):
        generator = np.random.default_rng(0)
        lines = ["path,label,group"]
        for label, name in enumerate(names):
            for number, file in enumerate(sorted((source / split / name).iterdir())):
                odd = generator.random() < 0.1 if split == "train" else number % 2 == 1
                color = COLORS[label ^ odd]
                path = folder / f"{split}-{name}-{file.stem}.png"
                image = ImageOps.fit(Image.open(file).convert("RGB"), (SIZE, SIZE))
                path.parent.mkdir(parents=True, exist_ok=True)
                ImageOps.expand(ImageOps.crop(image, BORDER), BORDER, color).save(path)
                lines.append(f"{path.name},{name},{name} in {color}")
        tables.append(folder / f"{split}.csv")
        tables[-1].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tables[0], tables[1]


def train(cell: Cell, work: Path) -> dict[str, Any]:
    """Train one way, and return the accuracy of all images and of the worst group."""
    model = visiongraft.fit(
        write_data(Path(cell.data), work / Path(cell.data).name),
        task="classification",
        task_options={"augment": "none", "head_start": "random"},
        size=SIZE,
        schedule="linear_probe",
        learning_rate=5e-3,
        epochs=20,
        batch_size=32,
        groups="group",
        group_training=WAYS[cell.way],
        select=SELECTS[cell.select],
        seed=cell.seed,
        callbacks=(),
    )
    metrics = model.facts["metrics"]
    groups = [facts["accuracy"] for facts in model.facts["groups"].values()]
    return {
        "accuracy": metrics["accuracy"],
        "worst": metrics["worst_group_accuracy"],
        "groups": groups,
    }


def main() -> None:
    """Train all cells that the results do not contain yet, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    cells = [
        Cell(options.data, way, select, seed)
        for seed in options.seeds
        for way in WAYS
        for select in SELECTS
    ]
    found = train_cells(cells, lambda cell: train(cell, options.work), options.results, len(cells))
    print("| training | epoch | all images | worst group |\n| --- | --- | --- | --- |")
    for way in WAYS:
        for select in SELECTS:
            own = [v for c, v in found.items() if (c.way, c.select) == (way, select)]
            shown = [_shown([100 * v[name] for v in own]) for name in ("accuracy", "worst")]
            print(f"| {way} | {select} | {' | '.join(shown)} |")


def _shown(values: list[float]) -> str:
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1f} ± {error:.1f}"


if __name__ == "__main__":
    main()
