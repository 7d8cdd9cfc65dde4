"""What differential privacy costs: accuracy of linear heads over the privacy budget.

    python benchmarks/privacy.py DATA... --results FILE [--seeds N] [--limit N]

Each DATA is an image folder with train/ and val/. The images are not augmented, so that all runs of a
dataset share its cached features: a run takes seconds. The private runs differ from the others in nothing
but the privacy; learning rate, epochs and batch size suit private ones (large batches, a high rate), and
are those of both. `closed_form` is the default head of `fit` without privacy, for comparison.

A seed is that of a run; noise and sampling have secret seeds, so that figures differ a little each time.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cells import mean_and_error, train_cells

import visiongraft

DELTA = 1e-5
WAYS = ("closed_form", "none", "8", "3", "1")
SETTINGS: Mapping[str, Any] = {
    "task": "classification",
    "schedule": "linear_probe",
    "size": 128,
    "epochs": 20,
    "batch_size": 128,
    "learning_rate": 5e-3,
    "weight_decay": 0.0,
    "select": "last",  # choosing by validation images would flatter all
    "replay": "on",
    "callbacks": (),
}


@dataclass(frozen=True)
class Cell:
    """One training: dataset, budget or "none" or "closed_form", and seed."""

    data: str
    way: str
    seed: int


def train(cell: Cell) -> dict[str, Any]:
    """Train one head, and return its accuracy on the validation images and what was spent."""
    start = "closed_form" if cell.way == "closed_form" else "random"
    options = {"augment": "none", "head_start": start}
    private = cell.way not in ("none", "closed_form")
    privacy = f"epsilon={cell.way}, delta={DELTA}" if private else None
    model = visiongraft.fit(
        cell.data, task_options=options, privacy=privacy, seed=cell.seed, **SETTINGS
    )
    facts = model.facts.get("privacy", {})
    return {
        "accuracy": model.facts["metrics"]["accuracy"],
        "epsilon": facts.get("epsilon"),
        "noise": facts.get("noise multiplier"),
    }


def main() -> None:
    """Train all cells that the results do not contain yet, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=1000)
    options = parser.parse_args()
    cells = [Cell(d, w, s) for d in options.data for w in WAYS for s in range(options.seeds)]
    found = train_cells(cells, train, options.results, options.limit)
    print(table(found))


def table(found: Mapping[Cell, Mapping[str, Any]]) -> str:
    """Return a Markdown table of the accuracy in percent: mean and standard error over seeds."""
    lines = ["| dataset | " + " | ".join(WAYS) + " |", "| --- |" + " --- |" * len(WAYS)]
    for data in dict.fromkeys(cell.data for cell in found):
        cells = [
            mean_and_error(
                [100 * v["accuracy"] for c, v in found.items() if (c.data, c.way) == (data, way)]
            )
            for way in WAYS
        ]
        lines.append(f"| {Path(data).name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
