"""What the decoding thread saves: a folder of JPEG files predicted with and without it.

    python benchmarks/decoding_ahead.py [--file FILE.onnx] [--images N] [--repeat N]

"in turn" decodes each batch and then runs it; "ahead" is ``Predictor.predict``. Both take turns, in
wall time, since that is what a second thread saves; figures are medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from visiongraft.data.decode import decode_file
from visiongraft.exporters.doctor.machine import describe_machine
from visiongraft.exporters.onnx.exporter import OnnxExporter
from visiongraft.exporters.runtime import Predictor
from visiongraft.lookup.backbones import load_backbone
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.plugins.classification.task import Classification

SIZES = {"480x640": (480, 640), "1080x1920": (1080, 1920)}
BATCH = 8


def write_images(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """Write JPEG files that cost about what photographs do to decode."""
    random, paths = np.random.default_rng(0), []
    for number in range(count):
        coarse = random.integers(0, 256, (size[0] // 8, size[1] // 8, 3), np.uint8)
        image = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)
        paths.append(folder / f"{number}.jpg")
        image.save(paths[-1], quality=90)
    return paths


def export(path: Path) -> None:
    torch.manual_seed(0)
    backbone = load_backbone("bundled/efficientnet_lite0")
    model = TransferModel(Network(backbone, Classification(class_names=("a", "b"))))
    OnnxExporter().export(model, path, None)


def in_turn(predictor: Predictor, paths: list[Path]) -> float:
    start = time.perf_counter()
    for first in range(0, len(paths), BATCH):
        images = [decode_file(path) for path in paths[first : first + BATCH]]
        predictor.run(np.stack(images))
    return time.perf_counter() - start


def ahead(predictor: Predictor, paths: list[Path]) -> float:
    start = time.perf_counter()
    predictor.predict(paths, batch_size=BATCH)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file", type=Path)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = given.file or folder / "model.onnx"
        if given.file is None:
            export(file)
        print(f"{machine['cpu']}, {machine['cores']} cores; {given.images} files, batch {BATCH}")
        for label, size in SIZES.items():
            (folder / label).mkdir()
            paths = write_images(folder / label, given.images, size)
            for threads in sorted({1, machine["cores"]}):
                predictor = Predictor(file, threads=threads)
                in_turn(predictor, paths[:BATCH])
                times = [
                    (in_turn(predictor, paths), ahead(predictor, paths))
                    for _ in range(given.repeat)
                ]
                before, after = (statistics.median(column) for column in zip(*times, strict=True))
                print(
                    f"{label}, {threads} threads a run: in turn {before:.2f} s, "
                    f"ahead {after:.2f} s, {before / after:.2f}x"
                )


if __name__ == "__main__":
    main()
