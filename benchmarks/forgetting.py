"""Whether a budget for forgetting holds on images that chose nothing.

    python benchmarks/forgetting.py --results FILE [--seeds N] [--only NAME] [--budget NUMBER] [--limit N]

scikit-learn's 8x8 digits. A model learns the old images, then continues with new ones: the other digits
("classes"), or all digits blurred and with noise ("domain"). Each seed divides the images anew: of the old
ones, some train the first model, some are the anchors of the budget, and some the test of whether it holds. The ways to
choose are compared on the interpolations that one run per seed records.

A budget "holds" if the accuracy on the test falls by no more. The test has few hundred images itself, so that a
budget which is exactly used up is missed by half of the seeds.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cells import train_cells
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import visiongraft
from visiongraft.plugins.classification.task import Classification

NAMES = tuple(map(str, range(10)))
EPOCHS = 2
IMAGES = 300  # of the anchors, and of the test
CONFIDENCE = 0.95
# Such that training without a budget forgets more than the budget.
RATES = {"classes": 5e-3, "domain": 5e-3}
Images = list[tuple[NDArray[np.uint8], int]]
Point = Mapping[str, Any]  # an epoch at an alpha: alpha, and accuracies by dataset


@dataclass(frozen=True)
class Cell:
    """One training: which split of the images, and the budget."""

    split: str
    seed: int
    budget: float


@dataclass(frozen=True)
class Parts:
    """The images of a seed."""

    first: Images  # what the first model learns
    anchors: Images
    test: Images
    new: Images


class History:
    """Keeps the history of a run."""

    history: Sequence[Any] = ()

    @visiongraft.hookimpl
    def run_finished(self, run: visiongraft.Run) -> None:
        """Keep it."""
        self.history = run.history


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return all images, uint8 (n, 8, 8, 1), and their digits."""
    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8) * 15.9).astype(np.uint8)
    return pixels[..., None], labels


def divide(split: str, seed: int) -> Parts:
    """Divide the digits at random into the parts of a seed."""
    images, labels = digits()
    random = np.random.default_rng(seed)
    order = random.permutation(len(images))
    old = [i for i in order if split == "domain" or labels[i] < 5]
    first, anchors, test = old[:300], old[300 : 300 + IMAGES], old[300 + IMAGES : 300 + 2 * IMAGES]
    new = first if split == "domain" else [i for i in order if labels[i] >= 5][:300]
    shifted = blurred(images, random) if split == "domain" else images

    def part(pixels: NDArray[np.uint8], positions: Sequence[int]) -> Images:
        return [(pixels[i], int(labels[i])) for i in positions]

    return Parts(part(images, first), part(images, anchors), part(images, test), part(shifted, new))


def blurred(images: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Blur the images over 2 pixels each way, and add noise."""
    wide = np.pad(images[..., 0].astype(float), ((0, 0), (1, 0), (1, 0)))
    mean = np.mean([wide[:, y : y + 8, x : x + 8] for y in range(2) for x in range(2)], axis=0)
    noisy = mean + random.normal(0, 50, mean.shape)
    return noisy.clip(0, 255).astype(np.uint8)[..., None]


def train(cell: Cell) -> dict[str, Any]:
    """Learn the old images, then the new ones within the budget."""
    parts = divide(cell.split, cell.seed)
    common: dict[str, Any] = {
        "task": Classification(class_names=NAMES, augment="none"),
        "device": "cpu", "callbacks": (), "seed": cell.seed, "in_channels": 1, "batch_size": 64, "size": 8,
    }  # fmt: skip
    first = visiongraft.fit(
        parts.first, backbone="simple_cnn", weights=None, epochs=8, select="last",
        schedule="full(learning_rate=1e-2, batch_norm='train')", **common,
    )  # fmt: skip
    del common["task"], common["in_channels"]
    kept = History()
    model = visiongraft.fit(
        parts.new, start=first, epochs=EPOCHS, wise_ft=5, schedule="full",
        learning_rate=RATES[cell.split], evaluate_on={"anchors": parts.anchors, "test": parts.test},
        select=f"best(anchors.accuracy >= -{cell.budget}, confidence={CONFIDENCE})",
        **{**common, "callbacks": [kept]},
    )  # fmt: skip
    return summary(cell, model.facts, kept.history)


def summary(cell: Cell, facts: Mapping[str, Any], history: Sequence[Any]) -> dict[str, Any]:
    """Return what each way of choosing comes to: change of the anchors and of the test, and new accuracy."""
    evaluation = facts["evaluation"]
    before = {name: evaluation[f"{name}.accuracy before training"] for name in ("anchors", "test")}
    points = [
        {"alpha": one["alpha"], "new": one["validation"]["accuracy"]}
        | {name: one["evaluate_on"][name]["accuracy"] - before[name] for name in before}
        for record in history
        for one in record["interpolations"]
    ]
    ends = [point for point in points if point["alpha"] == 1]
    chosen = {
        "no budget": best(ends),
        "epochs, as measured": best(ends, cell.budget),
        "epochs and alphas, as measured": best(points, cell.budget),
        "epochs and alphas, confidence": {
            "alpha": facts["selection"]["alpha"],
            "new": facts["metrics"]["accuracy"],
            **{name: evaluation[f"{name}.accuracy"] - before[name] for name in before},
        },
    }
    return {
        "before": evaluation["validation.accuracy before training"],
        "satisfied": facts["selection"]["satisfied"],
        **chosen,
    }


def best(points: Sequence[Point], budget: float = 1.0) -> Point:
    """Return the best point within the budget, or that which forgets least."""
    within = [point for point in points if point["anchors"] >= -budget - 1e-9]
    if not within:
        return max(points, key=lambda point: point["anchors"])
    return max(within, key=lambda point: point["new"])


def table(found: Mapping[Cell, Mapping[str, Any]]) -> str:
    """Return the results as Markdown."""
    lines = [
        "| split | budget | chosen among | budget holds | mean change | worst change | new accuracy | before |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for split, budget in sorted({(cell.split, cell.budget) for cell in found}):
        results = [found[c] for c in found if (c.split, c.budget) == (split, budget)]
        ways = [name for name in results[0] if name not in ("before", "satisfied")]
        for way in ways:
            changes = [one[way]["test"] for one in results]
            held = sum(change >= -budget - 1e-9 for change in changes)
            new = [one[way]["new"] for one in results]
            start = statistics.mean(one["before"] for one in results)
            lines.append(
                f"| {split} | {budget:g} | {way} | {held} of {len(results)} | {statistics.mean(changes):+.3f} "
                f"| {min(changes):+.3f} | {mean_and_error(new)} | {start:.3f} |"
            )
    return "\n".join(lines)


def mean_and_error(values: Sequence[float]) -> str:
    """Return the mean with its standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {error:.3f}"


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--only", choices=tuple(RATES), action="append")
    parser.add_argument("--budget", type=float, default=0.05)
    parser.add_argument("--limit", type=int, default=10**9)
    given = parser.parse_args()
    cells = [
        Cell(split, seed, given.budget)
        for seed in range(given.seeds)
        for split in given.only or RATES
    ]
    print(table(train_cells(cells, train, given.results, given.limit)))


if __name__ == "__main__":
    main()
