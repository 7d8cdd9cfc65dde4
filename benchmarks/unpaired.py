"""What CycleGAN learns of few images without pairs: outlines of people from photographs of others.

    python benchmarks/unpaired.py --data FOLDER --weights FILE [--results FILE.jsonl] [--epochs N] [...]

FOLDER contains train/ and val/ with images that hold a photograph and its outline side by side, FILE
torchvision's ImageNet weights of mobilenet_v2. Both halves are resized to SIDE x SIDE pixels first. Of one
half of the training pairs only the photographs are used, of the other half only the outlines. KID and FID
are those of the outlines of the validation photographs after the last epoch, by the features of
bundled/efficientnet_lite0; since these have pairs, PSNR is known as well. Finished cells are appended to the results
and are not trained again. Afterwards it prints the table of all finished cells, and what the photographs
themselves would get.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cells import mean_and_error, train_cells
from translation import load_pairs

import visiongraft
from visiongraft.plugins.image_sets.features import NETWORK, ImageSets
from visiongraft.plugins.translation.metrics import psnr

SCHEDULE = "full(learning_rate=5e-4, layer_decay=1.0)"
ENCODERS = ("pretrained", "random")

Images = list[np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        encoder: ``"pretrained"`` or ``"random"``.
        seed: Seed of the run.
    """

    encoder: str
    seed: int


def train(cell: Cell, given: argparse.Namespace) -> dict[str, Any]:
    """Train once and return what was measured."""
    began = time.process_time()
    training, validation = load_pairs(given.data, given.side)
    middle = len(training) // 2
    model = visiongraft.fit(
        (
            {"a": [a for a, _ in training[:middle]], "b": [b for _, b in training[middle:]]},
            {"a": [a for a, _ in validation], "b": [b for _, b in validation]},
        ),
        task="unpaired_translation",
        task_options={"channels": given.channels, "residual": True, "features_size": given.side},
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
    made = [each.image for each in model.predict([a for a, _ in validation])]
    if given.images:
        model.save(given.images / f"{cell.encoder}-{cell.seed}")
    measured = measure(made, [b for _, b in validation], given.side)
    return {**measured, "seconds": time.process_time() - began}


def measure(made: Images, wanted: Images, side: int) -> dict[str, Any]:
    """Compare images with their targets, as sets and one by one."""
    sets = ImageSets(NETWORK, side)
    sets.add(made, wanted)
    pairs = zip(made, wanted, strict=True)
    values = [psnr(*(one.transpose(2, 0, 1) / 255 for one in pair)) for pair in pairs]
    return {**sets.compare(), "psnr": float(np.mean(values))}


def row(name: str, results: list[dict[str, Any]]) -> str:
    """Return a row of the table."""
    scales = {"kid": 100, "fid": 1, "psnr": 1}
    values = [mean_and_error([scale * r[key] for r in results]) for key, scale in scales.items()]
    return f"| {name} | {' | '.join(values)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the cells and print the table."""
    parser = argparse.ArgumentParser(description="What CycleGAN learns of few images")
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--results", type=Path, default=Path("unpaired.jsonl"))
    parser.add_argument("--images", type=Path, help="folder to save the models in")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=1000, help="cells to train at most")
    given = parser.parse_args(arguments)
    cells = [Cell(encoder, seed) for seed in range(given.seeds) for encoder in ENCODERS]
    found = train_cells(cells, lambda cell: train(cell, given), given.results, given.limit)
    print("| encoder | KID x 100 | FID | PSNR, dB |\n| --- | --- | --- | --- |")
    for encoder in ENCODERS:
        own = [result for cell, result in found.items() if cell.encoder == encoder]
        if own:
            print(row(encoder, own))
    pairs = load_pairs(given.data, given.side)[1]
    alone = measure([a for a, _ in pairs], [b for _, b in pairs], given.side)
    print(row("none: the photographs", [alone]))


if __name__ == "__main__":
    main()
