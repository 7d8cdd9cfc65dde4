"""Which defaults win: candidates against the defaults of version 0.2, on many small datasets, by a fixed protocol.

    python benchmarks/defaults.py --sets FOLDER --results FILE.jsonl [--group tuning|held_out]
        [--candidates NAME ...] [--images N ...] [--seeds N ...] [--size N] [--limit N]

FOLDER is made by small_sets.py. A cell is one training: a dataset, a number of training images, a seed and a
candidate. Its result is the accuracy on the validation images after the last epoch, and the calibration
error there: no epoch is chosen. Finished cells are appended to the results and not trained again.

Printed are, for each number of images, accuracy and calibration error of each candidate as means over seeds, and
the paired differences from the first candidate ("random head", the defaults of version 0.2, unless others are
chosen), cell by cell. The interval is that of the mean over datasets of the mean difference within each, by a
bootstrap over datasets: images, seeds and counts of one dataset are no independent trials. Candidates are chosen on
the tuning sets; the held-out ones are for what was chosen.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from cells import train_cells
from small_sets import HELD_OUT, TUNING, subset
from tables import table_head, table_row

import visiongraft

METRICS = ("accuracy", "calibration_error")
GROUPS = {"tuning": tuple(TUNING), "held_out": tuple(HELD_OUT)}
REFERENCE = "random head"  # the defaults of version 0.2: batches of 32
CHOSEN = "chosen"  # lp_ft, whose rate follows the head, which it fits anew, and a batch size by the number of images
FULL = {"schedule": "full(learning_rate=3e-4)"}
LP_FT = "lp_ft(learning_rate={rate}, batch_norm='{norm}', layer_decay={decay})"


def tuned(
    rate: float = 1e-4, norm: str = "frozen", decay: float = 0.85, **task_options: Any
) -> dict[str, Any]:
    """Return settings of the default schedule with other options."""
    schedule = LP_FT.format(rate=rate, norm=norm, decay=decay)
    return {"schedule": schedule, "batch_size": 32, "task_options": task_options}


CANDIDATES: dict[str, dict[str, Any]] = {
    REFERENCE: tuned(head_start="random"),
    "closed-form head": tuned(),
    "rate 3e-4": tuned(3e-4),
    "rate 5e-4": tuned(5e-4),
    "rate 1e-3": tuned(1e-3),
    "rate 5e-4, batch 16": {**tuned(5e-4), "batch_size": 16},
    "rate 3e-4, batch 8": {**tuned(3e-4), "batch_size": 8},
    "rate 3e-4, batch 8, augment none": {**tuned(3e-4, augment="none"), "batch_size": 8},
    "rate 5e-4, batch norm trains": tuned(5e-4, norm="train"),
    "rate 5e-4, no layer decay": tuned(5e-4, decay=1.0),
    "rate 5e-4, label smoothing": tuned(5e-4, label_smoothing=0.1),
    "rate 5e-4, EMA": {**tuned(5e-4), "ema": 0.9},
    "rate 5e-4, augment none": tuned(5e-4, augment="none"),
    "rate 5e-4, augment strong": tuned(5e-4, augment="strong"),
    "rate 5e-4, whole image": {**tuned(5e-4), "resize": "stretch"},
    "rate 5e-4, no probe": {"schedule": "full(learning_rate=5e-4)", "epochs": 7, "batch_size": 32},
    "rate 3e-4, batch 8, no probe": {**FULL, "batch_size": 8},
    "rate 3e-4, batch 16, no probe": {**FULL, "batch_size": 16},
    "rate 3e-4, batch 8, no probe, EMA": {**FULL, "batch_size": 8, "ema": 0.95},
    "rate 3e-4, batch 8, no probe, whole image": {**FULL, "batch_size": 8, "resize": "stretch"},
    "probe only": {"schedule": "linear_probe", "batch_size": 32},
    CHOSEN: {},
    "chosen, no refit": {"schedule": "lp_ft(refit=False)"},
    "chosen, whole rate": {"schedule": "lp_ft(learning_rate=3e-4)"},
    "chosen, half the rate": {"schedule": "lp_ft(learning_rate=1.5e-4)"},
    "chosen, a quarter of the rate": {"schedule": "lp_ft(learning_rate=7.5e-5)"},
    "chosen, probe only": {"schedule": "linear_probe"},
    "chosen, EMA of 0.98": {"ema": 0.98},
}


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        dataset: Name of the dataset.
        images: Training images, in equal numbers of each class and at least two.
        seed: Of the choice of images and of the run.
        candidate: Name of the candidate.
        size: Side of the network's input in pixels.
        backbone: Name of the backbone.
        weights: Its weights; ``None`` for random ones.
    """

    dataset: str
    images: int
    seed: int
    candidate: str
    size: int
    backbone: str
    weights: str | None


def train(cell: Cell, sets: Path) -> dict[str, float]:
    """Train one cell, and return the results of its last epoch on all validation images."""
    start = time.process_time()
    with tempfile.TemporaryDirectory() as name:
        data = subset(sets / cell.dataset, cell.images, cell.seed, Path(name) / "data")
        model = visiongraft.fit(
            data,
            task="classification",
            backbone=cell.backbone,
            weights=cell.weights,
            size=cell.size,
            seed=cell.seed,
            select="last",
            callbacks=(),
            **CANDIDATES[cell.candidate],
        )
        results = model.evaluate(sets / cell.dataset / "val")
    return {
        "accuracy": results["accuracy"],
        "calibration_error": results["calibration_error"],
        "seconds": round(time.process_time() - start, 1),
    }


def cells(given: argparse.Namespace) -> Iterator[Cell]:
    """Yield all cells, those of one seed first, so that a part of them is useful."""
    names = GROUPS[given.group]
    for seed, dataset, images, candidate in product(
        given.seeds, names, given.images, given.candidates
    ):
        yield Cell(dataset, images, seed, candidate, given.size, given.backbone, given.weights)


def differences(
    found: Mapping[Cell, Mapping[str, float]],
    names: Sequence[str],
    candidate: str,
    reference: str,
    metric: str,
) -> list[float]:
    """Return the mean paired difference of two candidates on each dataset that has any, in percent."""
    by_set: dict[str, list[float]] = defaultdict(list)
    for cell, values in found.items():
        other = replace(cell, candidate=reference)
        if cell.candidate == candidate and other in found:
            by_set[cell.dataset].append(100 * (values[metric] - found[other][metric]))
    return [float(np.mean(by_set[name])) for name in names if name in by_set]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return a 95 % bootstrap interval of the mean of independent values."""
    random = np.random.default_rng(0)
    means = random.choice(values, size=(10_000, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def accuracies(
    found: Mapping[Cell, Mapping[str, float]], names: Sequence[str], candidates: Sequence[str]
) -> str:
    """Return accuracy and calibration error in percent, one line per candidate and number of images."""
    lines = table_head(["images", "candidate: accuracy, ECE", *names])
    for images in sorted({cell.images for cell in found}):
        for candidate in candidates:
            columns = []
            for name in names:
                runs = [
                    values
                    for cell, values in found.items()
                    if (cell.images, cell.candidate, cell.dataset) == (images, candidate, name)
                ]
                means = [
                    f"{100 * np.mean([run[metric] for run in runs]):.1f}"
                    for metric in METRICS
                    if runs
                ]
                columns.append(", ".join(means) or "-")
            lines.append(table_row([str(images), candidate, *columns]))
    return "\n".join(lines)


def gains(
    found: Mapping[Cell, Mapping[str, float]], names: Sequence[str], candidates: Sequence[str]
) -> str:
    """Return one line per candidate but the first: its gain in accuracy, its worst dataset, its calibration."""
    reference, *others = candidates
    lines = [
        f"{'against ' + reference:32} {'sets':>4} {'gain':>6} {'95 % interval':>16} {'worst':>7} {'ECE':>6}"
    ]
    for candidate in others:
        better, errors = (
            differences(found, names, candidate, reference, metric) for metric in METRICS
        )
        if not better:
            continue
        low, high = interval(better)
        lines.append(
            f"{candidate:32} {len(better):4} {np.mean(better):6.2f} {low:7.2f} to {high:5.2f} "
            f"{min(better):7.2f} {np.mean(errors):6.2f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=Path)
    parser.add_argument("--results", type=Path, default=Path("defaults.jsonl"))
    parser.add_argument("--group", choices=GROUPS, default="tuning")
    parser.add_argument(
        "--candidates", nargs="+", choices=CANDIDATES, default=list(CANDIDATES), metavar="NAME"
    )
    parser.add_argument("--images", nargs="+", type=int, default=[60, 200])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--backbone", default="bundled/efficientnet_lite0")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--limit", type=int, default=sys.maxsize, help="cells to train at most")
    given = parser.parse_args(arguments)
    given.weights = None if given.weights == "none" else given.weights
    if given.sets is None:
        print("defaults: pass --sets FOLDER to measure something", file=sys.stderr)
        return
    wanted = set(cells(given))
    trained = train_cells(
        cells(given), lambda cell: train(cell, given.sets), given.results, given.limit
    )
    found = {cell: values for cell, values in trained.items() if cell in wanted}
    names = GROUPS[given.group]
    print(accuracies(found, names, given.candidates))
    print()
    print(gains(found, names, given.candidates))


if __name__ == "__main__":
    main()
