"""What pretraining and ways to join frames gain in video classification, on a few videos of UCF101.

    python benchmarks/video.py --data FOLDER [--results FILE.jsonl] [--epochs N] [...]

FOLDER has the layout of UCF101, with classInd.txt, trainlist01.txt and testlist01.txt or the like. Of each video
FRAMES frames, spread over all of it, are decoded once and resized so that the shorter side has as many pixels as
the network's input. The backbone is bundled/efficientnet_lite0. A probe trains the head on frozen features, which are
computed once, at PROBE_SIDE pixels; fine-tuning trains all weights, at SIDE pixels, pretrained and random ones at
the same rates for the same number of steps. The accuracy is that of the test
videos after the last epoch, which nothing else sees. Finished cells are appended to the results and are not
trained again. Afterwards it prints the table of all finished cells: mean and standard error over seeds.
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
from visiongraft.inputs import Clips
from visiongraft.plugins.video.reading import read_dataset

BACKBONE = "bundled/efficientnet_lite0"
TUNING = "full(learning_rate=1e-3, layer_decay=1.0, batch_norm='train')"
SETTINGS: dict[str, dict[str, Any]] = {  # by how frames are joined
    "mean": {"task_options": {"temporal": "mean"}},
    "attention": {"task_options": {"temporal": "attention"}},
    "shift (TSM), mean": {"task_options": {"temporal": "mean"}, "adapters": "tsm"},
}
WEIGHTS = ("pretrained", "random")

Labeled = list[tuple[np.ndarray[Any, Any], str]]


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        training: ``"probe"`` or ``"fine-tuning"``.
        joined: A key of ``SETTINGS``.
        weights: One of ``WEIGHTS``.
        side: Height and width of the network's input.
        seed: Seed of the run.
    """

    training: str
    joined: str
    weights: str
    side: int
    seed: int


@cache
def load_clips(data: str, frames: int, side: int) -> tuple[Labeled, Labeled]:
    """Decode the training and the test videos."""
    inputs = Clips(frames)
    dataset = read_dataset(data, inputs)
    found = []
    for name in ("train", "test"):
        split = dataset.splits[name]
        clips = (split.samples.load(i) for i in range(len(split.samples)))
        pairs = zip(clips, split.labels, strict=True)
        found.append([(_resized(clip, side, inputs), labels[0]) for clip, labels in pairs])
    return found[0], found[1]


def _resized(clip: np.ndarray[Any, Any], side: int, inputs: Clips) -> np.ndarray[Any, Any]:
    """Resize the frames of a clip, and put channels last."""
    images = [Image.fromarray(frame) for frame in inputs.split(clip)]
    scale = side / min(images[0].size)
    width, height = (round(scale * length) for length in images[0].size)
    smaller = [image.resize((width, height), Image.Resampling.BICUBIC) for image in images]
    return np.stack([np.asarray(image) for image in smaller])


def measure(cell: Cell, given: argparse.Namespace) -> dict[str, Any]:
    """Train once and return what was measured."""
    began = time.process_time()
    settings = SETTINGS[cell.joined]
    probe = cell.training == "probe"
    model = visiongraft.fit(
        load_clips(given.data, given.frames, cell.side),
        task="video",
        backbone=BACKBONE,
        weights="pretrained" if cell.weights == "pretrained" else None,
        schedule="linear_probe" if probe else TUNING,
        size=cell.side,
        epochs=given.probe_epochs if probe else given.epochs,
        batch_size=8,
        seed=cell.seed,
        select="last",
        device="cpu",
        callbacks=(),
        **{**settings, "task_options": {**settings["task_options"], "frames": given.frames}},
    )
    accuracy = model.facts["metrics"]["accuracy"]
    return {"accuracy": accuracy, "seconds": time.process_time() - began}


def cells_of(given: argparse.Namespace) -> list[Cell]:
    """List the cells. A shift of frozen features, which know none, is left out."""
    probed = [
        (joined, "probe", given.probe_side)
        for joined in SETTINGS
        if "adapters" not in SETTINGS[joined]
    ]
    tuned = [(joined, "fine-tuning", given.side) for joined in SETTINGS]
    return [
        Cell(training, joined, weights, side, seed)
        for seed in range(given.seeds)
        for joined, training, side in (*probed, *tuned)
        for weights in WEIGHTS
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the cells and print the table."""
    parser = argparse.ArgumentParser(description="What pretraining and joining frames gain")
    parser.add_argument("--data", required=True)
    parser.add_argument("--results", type=Path, default=Path("video.jsonl"))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--probe-epochs", type=int, default=20)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--probe-side", type=int, default=224)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=1000, help="cells to train at most")
    given = parser.parse_args(arguments)
    cells = cells_of(given)
    found = train_cells(cells, lambda cell: measure(cell, given), given.results, given.limit)
    print(f"| training | pixels | frames joined by | {' | '.join(WEIGHTS)} | seeds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for training, side, joined in dict.fromkeys((c.training, c.side, c.joined) for c in cells):
        kind = (training, side, joined)
        own = {c: r for c, r in found.items() if (c.training, c.side, c.joined) == kind}
        if own:
            values = [
                [100 * r["accuracy"] for c, r in own.items() if c.weights == w] for w in WEIGHTS
            ]
            counts = "/".join(str(len(each)) for each in values)
            columns = " | ".join(map(mean_and_error, values))
            print(f"| {training} | {side} | {joined} | {columns} | {counts} |")


if __name__ == "__main__":
    main()
