"""What an exported file costs on the CPU: against its bare network, PyTorch, and a fresh start.

    python benchmarks/onnx_cpu.py [--backbone NAME ...] [--size HEIGHTxWIDTH ...] [--seconds S]

One thread, so that the time of the CPU can be counted, which other programs hardly disturb. All
calls of a table take turns; figures are medians, and the ratios are what to look at.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from PIL import Image
from torch import Tensor, nn

from visiongraft.exporters.bench.timing import interleaved
from visiongraft.exporters.doctor.machine import describe_machine
from visiongraft.exporters.onnx.exporter import OnnxExporter
from visiongraft.lookup.backbones import load_backbone
from visiongraft.model import TransferModel
from visiongraft.network import InferenceGraph, Network
from visiongraft.plugins.classification.task import Classification

BACKBONES = ("bundled/efficientnet_lite0", "timm/mobilenetv2_100", "timm/resnet18")
SIZES = ("250x250", "480x640", "1080x1920")
FIRST_ANSWER = """
import time
start = time.perf_counter(), time.process_time()
import sys
from visiongraft.exporters.runtime import Predictor
Predictor(sys.argv[1], threads=1).predict(sys.argv[2])
print(time.perf_counter() - start[0], time.process_time() - start[1])
"""


class Bare(nn.Module):
    """The network and the decoding alone, on preprocessed images."""

    def __init__(self, graph: InferenceGraph) -> None:
        super().__init__()
        self.backbone, self.head, self.task = graph.backbone, graph.head, graph.task

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        sizes = torch.zeros(images.shape[0], 2, dtype=torch.int64)
        return self.task.decode(self.head(self.backbone(images)), sizes)


def build(backbone: str) -> TransferModel:
    """Return a classifier whose weights do not matter."""
    torch.manual_seed(0)
    weights = "pretrained" if backbone.startswith("bundled/") else None
    task = Classification(class_names=("a", "b", "c"))
    return TransferModel(Network(load_backbone(backbone, weights=weights), task))


def export_bare(graph: InferenceGraph, path: Path) -> None:
    height, width = graph.preprocess.config.size
    program = torch.onnx.export(
        Bare(graph).eval(),
        (torch.zeros(2, 3, height, width),),
        dynamo=True,
        dynamic_shapes=({0: "batch"},),
        input_names=["images"],
        opset_version=18,
        verbose=False,
    )
    onnx.save(program.model_proto, path)


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def with_numpy(images: np.ndarray, graph: InferenceGraph) -> np.ndarray:
    """Preprocess as people do without PyTorch: Pillow's antialiased resize on float planes."""
    config = graph.preprocess.config
    top, left, height, width = graph.preprocess.region(images.shape[1], images.shape[2])
    size = config.size[::-1]
    mean, std = (np.float32(v)[:, None, None] * 255 for v in (config.mean, config.std))
    kind = Image.Resampling[config.interpolation.upper()]
    found = []
    for image in images[:, top : top + height, left : left + width]:
        planes = [Image.fromarray(image[..., c].astype(np.float32)) for c in range(3)]
        found.append(np.stack([np.asarray(plane.resize(size, kind)) for plane in planes]))
    return (np.stack(found) - mean) / std


def compare(model: TransferModel, folder: Path, size: str, batch: int, seconds: float) -> None:
    """Print one line of times and ratios."""
    graph = model.inference_graph()
    height, width = map(int, size.split("x"))
    images = np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), np.uint8)
    whole, bare = session(folder / "whole.onnx"), session(folder / "bare.onnx")
    tensor = torch.tensor(images)
    prepared = graph.preprocess(tensor).numpy()

    def eager(layout: torch.memory_format) -> Callable[[], Any]:
        def call() -> Any:
            with torch.inference_mode():
                x = graph.preprocess(tensor).contiguous(memory_format=layout)
                outputs = graph.head(graph.backbone(x))
                return graph.task.decode(outputs, torch.zeros(batch, 2, dtype=torch.int64))

        return call

    def outside(prepare: Callable[[], np.ndarray]) -> Callable[[], Any]:
        return lambda: bare.run(None, {"images": prepare()})

    def by_torch() -> np.ndarray:
        with torch.inference_mode():
            return graph.preprocess(torch.from_numpy(images)).numpy()

    times = interleaved(
        {
            "all inside": lambda: whole.run(None, {"images": images}),
            "bare": lambda: bare.run(None, {"images": prepared}),
            "bare, torch outside": outside(by_torch),
            "bare, numpy outside": outside(lambda: with_numpy(images, graph)),
            "eager": eager(torch.contiguous_format),
            "eager, channels last": eager(torch.channels_last),
        },
        seconds=seconds,
        clock=time.process_time,
    )
    ms = {name: 1000 * statistics.median(found) for name, found in times.items()}
    inside, eager_ms = ms["all inside"], min(ms["eager"], ms["eager, channels last"])
    print(
        f"  {size:>9} x{batch:<2} {inside:8.1f} {ms['bare']:8.1f} {ms['bare, torch outside']:8.1f} "
        f"{ms['bare, numpy outside']:8.1f} {eager_ms:8.1f}   "
        f"{inside / ms['bare, torch outside'] - 1:+7.1%} {inside / ms['bare, numpy outside'] - 1:+7.1%} "
        f"{eager_ms / inside:7.2f}x"
    )


def first_answer(path: Path, folder: Path) -> None:
    """Time a fresh process from its first line to its first prediction."""
    image = folder / "image.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(noise).resize((640, 480)).save(image)
    found = []
    for _ in range(7):
        command = [sys.executable, "-c", FIRST_ANSWER, str(path), str(image)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append([float(word) for word in done.stdout.split()])
    wall, cpu = (statistics.median(column) for column in zip(*found, strict=True))
    print(
        f"  first answer of a fresh process, {path.stat().st_size / 1e6:.1f} MB: "
        f"{wall:.2f} s ({cpu:.2f} s of the CPU)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", nargs="*", default=BACKBONES)
    parser.add_argument("--size", nargs="*", default=SIZES)
    parser.add_argument("--seconds", type=float, default=1.5, help="for each figure")
    given = parser.parse_args()
    torch.set_num_threads(1)
    machine = describe_machine()
    print(
        f"{machine['cpu']}, 1 thread, torch {torch.__version__}, onnxruntime "
        f"{onnxruntime.__version__}; ms of the CPU a run"
    )
    for backbone in given.backbone:
        model = build(backbone)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            OnnxExporter().export(model, folder / "whole.onnx", None)
            export_bare(model.inference_graph(), folder / "bare.onnx")
            print(
                f"{backbone}\n    images     inside     bare   +torch   +numpy    eager   "
                "inside against: +torch  +numpy    eager"
            )
            for size in given.size:
                for batch in (1, 8):
                    compare(model, folder, size, batch, given.seconds)
            first_answer(folder / "whole.onnx", folder)


if __name__ == "__main__":
    main()
