"""What CycleGAN learns of few images without pairs: to take a veil of haze from photographs.

    python benchmarks/unpaired.py --data FOLDER [--weights FILE] [--results FILE.jsonl] [--epochs N] [...]

FOLDER contains photographs in train/ and val/, in folders of any depth; FILE torchvision's ImageNet weights of
mobilenet_v2, which is skipped without it. The middle of each photograph is resized to SIDE x SIDE pixels. One half of
the training photographs is seen through haze alone, the other half is seen without it: no photograph is seen twice.
Those of val/ are seen through haze and compared with what they are without it: PSNR of each, and KID and FID of
all by the features of bundled/efficientnet_lite0, after the last epoch. Finished cells are appended to the results and are not
trained again. Afterwards it prints the table of all finished cells, and what photographs in haze would get.
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
from PIL import Image, ImageOps

import visiongraft
from visiongraft.plugins.image_sets.features import NETWORK, ImageSets
from visiongraft.plugins.translation.metrics import psnr

SCHEDULE = "full(learning_rate=1e-3, layer_decay=1.0)"
ENCODERS = ("simple_cnn", "random", "pretrained")  # the others are mobilenet_v2
HAZE, THICKNESS = np.array([217, 140, 64]), 0.45

Images = list[np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        encoder: One of ``ENCODERS``.
        seed: Seed of the run.
    """

    encoder: str
    seed: int


def train(cell: Cell, given: argparse.Namespace) -> dict[str, Any]:
    """Train once and return what was measured."""
    began = time.process_time()
    clear, wanted = (photographs(given.data / part, given.side) for part in ("train", "val"))
    middle, inputs = len(clear) // 2, hazed(wanted)
    model = visiongraft.fit(
        ({"a": hazed(clear[:middle]), "b": clear[middle:]}, {"a": inputs, "b": wanted}),
        task="unpaired_translation",
        task_options={"channels": given.channels, "residual": True, "features_size": given.side},
        backbone="simple_cnn" if cell.encoder == "simple_cnn" else "torchvision/mobilenet_v2",
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
    made = [each.image for each in model.predict(inputs)]
    if given.images:
        model.save(given.images / f"{cell.encoder}-{cell.seed}")
    measured = measure(made, wanted, given.side)
    return {**measured, "seconds": time.process_time() - began}


def photographs(folder: Path, side: int) -> Images:
    """Return the middle of each photograph in a folder, at random but always alike."""
    files = sorted(file for file in folder.rglob("*") if file.suffix in (".jpg", ".png"))
    order = np.random.default_rng(0).permutation(len(files))
    images = (Image.open(files[i]).convert("RGB") for i in order)
    return [np.asarray(ImageOps.fit(image, (side, side))) for image in images]


def hazed(images: Images) -> Images:
    """Return images behind a veil of one color."""
    return [((1 - THICKNESS) * i + THICKNESS * HAZE).round().astype(np.uint8) for i in images]


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
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights")
    parser.add_argument("--results", type=Path, default=Path("unpaired.jsonl"))
    parser.add_argument("--images", type=Path, help="folder to save the models in")
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=ENCODERS)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=1000, help="cells to train at most")
    given = parser.parse_args(arguments)
    encoders = [each for each in ENCODERS if given.weights or each != "pretrained"]
    encoders = [each for each in encoders if each in given.encoders]
    cells = [Cell(encoder, seed) for seed in range(given.seeds) for encoder in encoders]
    found = train_cells(cells, lambda cell: train(cell, given), given.results, given.limit)
    print("| encoder | KID x 100 | FID | PSNR, dB |\n| --- | --- | --- | --- |")
    for encoder in ENCODERS:
        own = [result for cell, result in found.items() if cell.encoder == encoder]
        if own:
            print(row(encoder, own))
    wanted = photographs(given.data / "val", given.side)
    print(row("none: in haze", [measure(hazed(wanted), wanted, given.side)]))


if __name__ == "__main__":
    main()
