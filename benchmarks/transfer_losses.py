"""What transfer losses gain with few labels, in the shape of TLlib's table.

    python benchmarks/transfer_losses.py --data FOLDER [--weights FILE] [--results FILE.jsonl] [...]

FOLDER contains hymenoptera/ and cifar10_small/, each with train/CLASS/ and val/CLASS/; FILE contains
torchvision's published weights of mobilenet_v2, which is skipped without it. Each cell trains on a
seeded fraction of the labels of each class and measures the accuracy of the last epoch on val/: no
epoch is chosen by it. All heads start at random, as in the papers. Finished cells are appended to the
results and are not trained again, so that the table can be made in several sittings; --limit N trains at
most N cells. Afterwards it prints the tables of all finished cells in percent.
"""

from __future__ import annotations

import argparse
import inspect
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from cells import mean_and_error, train_cells
from small_sets import draw, link_subset

import visiongraft
from visiongraft.registry.manager import plugins

VANILLA = "vanilla"
METHODS: dict[str, dict[str, Any]] = {
    VANILLA: {},
    "l2_sp": {"transfer_loss": "l2_sp", "weight_decay": 0.0},
    "delta": {"transfer_loss": "delta"},
    "bss": {"transfer_loss": "bss"},
    "bss(strength=0.1)": {"transfer_loss": "bss(strength=0.1)"},
    "stoch_norm": {"adapters": ["stoch_norm"]},
    "lwf": {"transfer_loss": "lwf"},
    "lwf(strength=0.1)": {"transfer_loss": "lwf(strength=0.1)"},
    "co_tuning": {"transfer_loss": "co_tuning"},
    "co_tuning(strength=0.01)": {"transfer_loss": "co_tuning(strength=0.01)"},
    "co_tuning(strength=0.3)": {"transfer_loss": "co_tuning(strength=0.3)"},
    "bi_tuning": {"transfer_loss": "bi_tuning"},
}
BACKBONES = {
    "efficientnet_lite0": "bundled/efficientnet_lite0",
    "mobilenet_v2": "torchvision/mobilenet_v2",
}
SETS = ("hymenoptera", "cifar10_small")
FRACTIONS = (15, 30, 50, 100)  # percent of the labels


@dataclass(frozen=True)
class Cell:
    """One training run.

    Attributes:
        data: Name of the dataset.
        backbone: Short name of the backbone.
        method: Name of the method, or a transfer loss with options.
        percent: Of the labels of each class.
        seed: Of the labels and the run.
    """

    data: str
    backbone: str
    method: str
    percent: int
    seed: int


def subset(data: Path, cell: Cell, folder: Path, most: int = sys.maxsize) -> Path:
    """Link a seeded fraction of each class's first training images, and one validation image of each.

    What ``fit`` measures after each epoch is not used, so it gets little to measure.
    """

    def choose(files: list[Path]) -> list[Path]:
        first = files[:most]
        return draw(first, max(2, math.ceil(len(first) * cell.percent / 100)), cell.seed)

    return link_subset(data, folder, choose)


def train(cell: Cell, given: argparse.Namespace) -> dict[str, Any]:
    """Train one cell and return its accuracy and time."""
    began = time.perf_counter()
    settings = METHODS.get(cell.method, {"transfer_loss": cell.method})
    weights = given.weights if cell.backbone == "mobilenet_v2" else given.pretrained
    with tempfile.TemporaryDirectory() as name:
        model = visiongraft.fit(
            subset(Path(given.data) / cell.data, cell, Path(name) / "data", given.most),
            task="classification",
            backbone=BACKBONES.get(cell.backbone, cell.backbone),
            weights=weights,
            schedule=given.schedule,
            size=given.size,
            epochs=given.epochs,
            batch_size=given.batch_size,
            seed=cell.seed,
            select="last",
            callbacks=(),
            task_options={"head_start": "random"},
            **settings,
        )
        accuracy = model.evaluate(Path(given.data) / cell.data / "val")["accuracy"]
    return {"accuracy": accuracy, "seconds": round(time.perf_counter() - began, 1)}


def cells(given: argparse.Namespace) -> Iterator[Cell]:
    """Yield the cells of the table; those of one seed first, so that a part of it is useful."""
    has_adapters = "adapters" in inspect.signature(visiongraft.fit).parameters
    has_adapters = has_adapters and plugins().provides("adapter", "stoch_norm")
    for seed, data, backbone, percent, method in product(
        given.seeds, given.sets, given.backbones, given.percents, given.methods
    ):
        if method == "stoch_norm" and not has_adapters:
            continue
        if backbone == "mobilenet_v2" and given.weights is None:
            continue
        yield Cell(data, backbone, method, percent, seed)


def table(found: dict[Cell, dict[str, Any]], percents: Sequence[int]) -> str:
    """Return Markdown: a table for each dataset and backbone, with means and errors over seeds.

    The last column is the gain over the training without a method, from pairs of cells that differ in the
    method alone.
    """
    lines = []
    for data, backbone in dict.fromkeys((c.data, c.backbone) for c in found):
        own = {
            c: 100 * r["accuracy"]
            for c, r in found.items()
            if (c.data, c.backbone) == (data, backbone)
        }
        titles = [f"{data}, {backbone}", *(f"{percent} %" for percent in percents), "gain"]
        lines += ["", _row(titles), _row(["---"] * len(titles))]
        for method in dict.fromkeys(c.method for c in own):
            values = {c: value for c, value in own.items() if c.method == method}
            means = [
                mean_and_error([value for c, value in values.items() if c.percent == percent])
                for percent in percents
            ]
            plain = {c: own.get(replace(c, method=VANILLA)) for c in values}
            gains = [value - plain[c] for c, value in values.items() if plain[c] is not None]
            gain = "" if method == VANILLA else mean_and_error(gains)
            lines.append(_row([f"`{method}`", *means, gain]))
    return "\n".join(lines)


def _row(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data")
    parser.add_argument("--weights")
    parser.add_argument("--pretrained", default="pretrained", help="none: random, for trials")
    parser.add_argument("--results", type=Path, default=Path("transfer_losses.jsonl"))
    parser.add_argument("--schedule", default="full(learning_rate=5e-4)")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--most", type=int, default=sys.maxsize, help="training images per class")
    parser.add_argument("--limit", type=int, default=sys.maxsize)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--percents", nargs="+", type=int, default=FRACTIONS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    given = parser.parse_args(arguments)
    if given.data is None:
        print("transfer_losses: pass --data FOLDER to measure something", file=sys.stderr)
        return
    given.pretrained = None if given.pretrained == "none" else given.pretrained
    found = train_cells(cells(given), lambda cell: train(cell, given), given.results, given.limit)
    print(table(found, given.percents))


if __name__ == "__main__":
    main()
