"""What pretraining gains in translation: outlines of people and people of outlines, by a U-Net.

    python benchmarks/translation.py --data FOLDER --weights FILE [--results FILE.jsonl] [--epochs N] [...]

FOLDER contains train/ and val/ with images that hold a photograph and its outline side by side, FILE
torchvision's ImageNet weights of mobilenet_v2. Both halves are resized to SIDE x SIDE pixels first. The
pretrained encoder and the one with random weights train all their weights at the same rates for the same
number of steps, with an L1 loss. SSIM and PSNR are those of the validation images after the last epoch.
Finished cells are appended to the results and are not trained again. Afterwards it prints the table of
all finished cells: mean and standard error over seeds, and how near the inputs themselves are to the targets.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from cells import mean_and_error, train_cells
from PIL import Image

import visiongraft
from visiongraft.plugins.translation.data import read_splits
from visiongraft.plugins.translation.metrics import ImageMetrics

DIRECTIONS = {"photograph to outline": "a_to_b", "outline to photograph": "b_to_a"}
SCHEDULE = "full(learning_rate=1e-3, layer_decay=1.0, batch_norm='train')"
METRICS = ("ssim", "psnr", "l1")

Pairs = list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        direction: A key of ``DIRECTIONS``.
        encoder: ``"pretrained"`` or ``"random"``.
        seed: Seed of the run.
    """

    direction: str
    encoder: str
    seed: int


@cache
def load_pairs(data: str, side: int) -> tuple[Pairs, Pairs]:
    """Load the training and validation pairs, resized."""
    splits = read_splits(data, reverse=False)
    return tuple(  # type: ignore[return-value]
        [(_resized(part.load(i), side), _resized(part.target(i), side)) for i in range(len(part))]
        for part in (splits.train, splits.validation)
    )


def _resized(image: np.ndarray[Any, Any], side: int) -> np.ndarray[Any, Any]:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def measure(cell: Cell, given: argparse.Namespace) -> dict[str, Any]:
    """Train once and return what was measured."""
    began = time.process_time()
    model = visiongraft.fit(
        load_pairs(given.data, given.side),
        task="translation",
        task_options={"direction": DIRECTIONS[cell.direction], "channels": given.channels},
        backbone="torchvision/mobilenet_v2",
        weights=given.weights if cell.encoder == "pretrained" else None,
        schedule=SCHEDULE,
        size=given.side,
        epochs=given.epochs,
        batch_size=8,
        seed=cell.seed,
        select="last",
        device="cpu",
        callbacks=(),
    )
    found = model.facts["metrics"]
    return {**{name: found[name] for name in METRICS}, "seconds": time.process_time() - began}


def inputs_alone(direction: str, pairs: Pairs) -> dict[str, Any]:
    """Measure the inputs as if they were results."""
    metrics = ImageMetrics()
    for pair in pairs:
        image, target = pair if DIRECTIONS[direction] == "a_to_b" else pair[::-1]
        metrics.update({"image": (image.transpose(2, 0, 1) / 255)[None]}, [target])
    return metrics.compute()


def row(direction: str, encoder: str, results: list[dict[str, Any]]) -> str:
    """Return a row of the table."""
    values = [mean_and_error([100 * r["ssim"] for r in results])]
    values.append(mean_and_error([r["psnr"] for r in results]))
    return f"| {direction} | {encoder} | {' | '.join(values)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the cells and print the table."""
    parser = argparse.ArgumentParser(description="What pretraining gains in translation")
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--results", type=Path, default=Path("translation.jsonl"))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=1000, help="cells to train at most")
    given = parser.parse_args(arguments)
    cells = [
        Cell(direction, encoder, seed)
        for seed in range(given.seeds)
        for direction in DIRECTIONS
        for encoder in ("pretrained", "random")
    ]
    found = train_cells(cells, lambda cell: measure(cell, given), given.results, given.limit)
    print("| direction | encoder | SSIM, % | PSNR, dB |\n| --- | --- | --- | --- |")
    for direction in DIRECTIONS:
        for encoder in ("pretrained", "random"):
            own = [r for c, r in found.items() if (c.direction, c.encoder) == (direction, encoder)]
            if own:
                print(row(direction, encoder, own))
        alone = inputs_alone(direction, load_pairs(given.data, given.side)[1])
        print(row(direction, "none: the input itself", [alone]))


if __name__ == "__main__":
    main()
