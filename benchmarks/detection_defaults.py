"""Which defaults win in detection: candidates trained on the same images, by the score after the last epoch.

    python benchmarks/detection_defaults.py --results FILE.jsonl [--data FOLDER] [--sets NAME ...]
        [--candidates NAME ...] [--seeds N ...] [--size N] [--epochs N] [--limit N]

The sets are "shapes", drawn on photographs of scikit-image, and folders of FOLDER in any format that detection reads.
Finished cells are appended to the results and not trained again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from cells import mean_and_error, train_cells
from detection import draw_shapes

import visiongraft

CHOSEN = "chosen"
CANDIDATES: dict[str, dict[str, Any]] = {
    CHOSEN: {},
    "EMA of 0.9": {"ema": 0.9},
    "EMA of 0.98": {"ema": 0.98},
    "letterbox": {"resize": "letterbox"},
    "mosaic of half the images": {"task_options": {"mosaic": 0.5}},
    "strong augmentation": {"task_options": {"augment": "strong"}},
    "no augmentation": {"task_options": {"augment": "none"}},
    "batch norm frozen": {"schedule": "lp_ft(batch_norm='frozen')"},
    "layer decay of 0.85": {"schedule": "lp_ft(layer_decay=0.85)"},
}


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        dataset: Name of the dataset.
        seed: Of the run, and of the division into training and validation images.
        candidate: Name of the candidate.
        size: Size of the images in pixels.
        epochs: Number of epochs.
    """

    dataset: str
    seed: int
    candidate: str
    size: int
    epochs: int


def train(cell: Cell, folder: Path | None) -> dict[str, float]:
    """Train one cell, and return mAP and AP50 of its last epoch."""
    start = time.process_time()
    with tempfile.TemporaryDirectory() as name:
        data = draw_shapes(Path(name)) if folder is None else folder / cell.dataset
        model = visiongraft.fit(
            data,
            task="detection",
            size=cell.size,
            epochs=cell.epochs,
            seed=cell.seed,
            batch_size=8,
            select="last",
            callbacks=(),
            **CANDIDATES[cell.candidate],
        )
    metrics = model.facts["metrics"]
    seconds = round(time.process_time() - start, 1)
    return {"mAP": metrics["mAP"], "AP50": metrics["AP50"], "seconds": seconds}


def table(found: Mapping[Cell, Mapping[str, float]], sets: Sequence[str]) -> str:
    """Return a Markdown table: mAP in percent by candidate and dataset, with standard errors over seeds."""
    lines = [f"| settings | {' | '.join(sets)} |", f"| --- |{' --- |' * len(sets)}"]
    for candidate in CANDIDATES:
        columns = [
            mean_and_error(
                [
                    100 * values["mAP"]
                    for cell, values in found.items()
                    if (cell.dataset, cell.candidate) == (name, candidate)
                ]
            )
            for name in sets
        ]
        lines.append(f"| {candidate} | {' | '.join(columns)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=Path("detection_defaults.jsonl"))
    parser.add_argument("--data", type=Path, help="folder of datasets")
    parser.add_argument("--sets", nargs="+", default=["shapes"])
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--limit", type=int, default=sys.maxsize, help="cells to train at most")
    given = parser.parse_args(arguments)
    cells = [
        Cell(dataset, seed, candidate, given.size, given.epochs)
        for seed, dataset, candidate in product(given.seeds, given.sets, given.candidates)
    ]
    trained = train_cells(
        cells,
        lambda cell: train(cell, None if cell.dataset == "shapes" else given.data),
        given.results,
        given.limit,
    )
    print(table({cell: trained[cell] for cell in cells if cell in trained}, given.sets))


if __name__ == "__main__":
    main()
