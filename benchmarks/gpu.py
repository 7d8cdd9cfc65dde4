"""What a GPU makes of training, the feature cache, and exported files; made to end within 8 minutes.

    python benchmarks/gpu.py [--device cuda] [--backbone NAME] [--weights FILE] [--out FILE.json]
        [--images N] [--size N] [--batch-size N] [--workers N] [--quick]

Without ``--weights`` the weights are random: the times are the same. The images are drawn, JPEG files of
500x375 pixels. Parts:

- training: images per second of ``fit`` from files, of the same network in a bare loop on one batch that
  stays on the GPU (what the input pipeline is measured against), and of a loop with timm's own loader.
- cache: images per second of frozen epochs that are replayed, against the forward passes they replace.
- files: each task's model, exported in fp32 and fp16 and run by every provider that works here, with IO
  binding and CUDA graphs too: images per second, and how far results are from those of the CPU.

Every result is printed at once and written to the JSON file, so that a run that is cut off loses nothing. A
part that fails is a line with the reason. ``--device cpu --quick`` runs the same code in small.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import visiongraft
from visiongraft.errors import RuntimeProviderError
from visiongraft.exporters.bench.timing import interleaved
from visiongraft.exporters.runtime import Predictor
from visiongraft.lookup.backbones import load_backbone
from visiongraft.registry.manager import plugins

CLASSES = 4
PARTS = ("training", "cache", "files")
TASKS = ("classification", "detection", "segmentation", "face_embedding")
VARIANTS: dict[str, dict[str, Any]] = {
    "cpu": {"providers": "cpu"},
    "cuda": {"providers": "cuda"},
    "cuda, IO binding": {"providers": "cuda", "io_binding": True},
    "cuda, CUDA graph": {"providers": "cuda", "cuda_graph": True},
    "tensorrt": {"providers": "tensorrt"},
}


@dataclass(frozen=True)
class Row:
    """One result.

    Attributes:
        part: Part of the benchmark.
        what: What was measured.
        value: Its value; ``None`` if it could not be measured.
        unit: Unit of the value.
        detail: A comparison, or the reason why there is no value.
    """

    part: str
    what: str
    value: float | None
    unit: str
    detail: str = ""

    def __str__(self) -> str:
        value = "-" if self.value is None else f"{self.value:,.1f}"
        return f"{self.part:10} {self.what:44} {value:>10} {self.unit:9} {self.detail}"


class StepClock:
    """Records when each training step ended, by epoch."""

    def __init__(self) -> None:
        self.ends: dict[int, list[float]] = {}

    @visiongraft.hookimpl
    def step_ended(self, run: Any) -> None:
        """Note the time."""
        self.ends.setdefault(run.state.epoch, []).append(time.perf_counter())

    def rate(self, images: int) -> float:
        """Return images per second within the last epoch, from the end of its first step on."""
        ends = self.ends[max(self.ends)]
        return images * (len(ends) - 1) / (ends[-1] - ends[0])


# ---- training ----


def write_images(folder: Path, count: int) -> Path:
    """Draw JPEG files with smooth colors and some noise, in one folder per class."""
    random = np.random.default_rng(0)
    for split, number in (("train", count), ("val", 8 * CLASSES)):
        for index in range(number):
            coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            image = np.asarray(Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC))
            noisy = image + random.integers(0, 24, image.shape, dtype=np.uint8) // 2
            path = folder / split / str(index % CLASSES) / f"{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noisy).save(path, quality=90)
    return folder


def settings_of(given: argparse.Namespace) -> dict[str, Any]:
    """Return what all trainings have in common."""
    return {
        "task": "classification",
        "backbone": given.backbone,
        "weights": given.weights,
        "size": given.size,
        "batch_size": given.batch_size,
        "workers": given.workers,
        "device": given.device,
        "precision": "bf16",
        "replay": False,
    }


def training(given: argparse.Namespace, data: Path) -> Iterator[Row]:
    """Compare ``fit`` with loops that do less."""
    clock = StepClock()
    visiongraft.fit(data, schedule="full", epochs=2, callbacks=[clock], **settings_of(given))
    ours = clock.rate(given.batch_size)
    bare = bare_rate(given)
    yield Row("training", "fit, from files", ours, "images/s", f"{given.workers} workers")
    yield Row("training", "bare loop, one batch on the device", bare, "images/s")
    yield Row("training", "fit / bare loop", 100 * ours / bare, "%", "goal: at least 90")
    timm = timm_rate(given, data)
    yield Row("training", "timm's loader and the bare loop", timm, "images/s")
    yield Row("training", "fit / timm's loader", 100 * ours / timm, "%", "goal: at least 100")


def make_step(given: argparse.Namespace) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """Make a network and return one training step of it, as a plain PyTorch user writes it."""
    backbone = load_backbone(given.backbone, weights=given.weights, size=given.size)
    head = torch.nn.Linear(backbone.info.embedding_dim, CLASSES)
    network = torch.nn.ModuleList([backbone, head]).to(given.device).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def step(images: torch.Tensor, targets: torch.Tensor) -> None:
        with torch.autocast(given.device, torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(head(backbone(images).pooled), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def bare_rate(given: argparse.Namespace) -> float:
    """Return images per second of training steps on one batch that stays on the device."""
    shape = (given.batch_size, 3, given.size, given.size)
    images = torch.randn(shape, device=given.device).to(memory_format=torch.channels_last)
    targets = torch.arange(given.batch_size, device=given.device) % CLASSES
    step = make_step(given)

    def run() -> None:
        for _ in range(given.steps):
            step(images, targets)
        synchronize(given)

    run()
    times = [timed(run) for _ in range(3)]
    return given.batch_size * given.steps / statistics.median(times)


def timm_rate(given: argparse.Namespace, data: Path) -> float:
    """Return images per second of the second epoch with timm's loader."""
    from timm.data import create_dataset, create_loader

    loader = create_loader(
        create_dataset("", str(data / "train")),
        (3, given.size, given.size),
        given.batch_size,
        is_training=True,
        num_workers=given.workers,
        use_prefetcher=given.device == "cuda",
        device=torch.device(given.device),
    )
    step, rates = make_step(given), []
    for _ in range(2):
        ends = []
        for images, targets in loader:
            images = images.to(given.device).contiguous(memory_format=torch.channels_last)
            step(images, targets.to(given.device))
            synchronize(given)
            ends.append(time.perf_counter())
        rates.append(given.batch_size * (len(ends) - 1) / (ends[-1] - ends[0]))
    return rates[-1]


# ---- cache ----


def cache(given: argparse.Namespace, data: Path) -> Iterator[Row]:
    """Compare frozen epochs with and without the feature cache."""
    rates = {}
    for name, replay in (("images", False), ("cached features", True)):
        clock = StepClock()
        settings = {**settings_of(given), "replay": replay, "replay_shared": False}
        visiongraft.fit(data, schedule="linear_probe", epochs=3, callbacks=[clock], **settings)
        rates[name] = clock.rate(given.batch_size)
        yield Row("cache", f"frozen epochs on {name}", rates[name], "images/s")
    yield Row("cache", "ratio", rates["cached features"] / rates["images"], "times")


# ---- files ----


def files(given: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Export a small model of each task, and run it by every provider."""
    missing: set[str] = set()
    for name in TASKS:
        kind = plugins().get("task", name)
        examples = kind().examples()
        data = folder / name / "data"
        data.mkdir(parents=True)
        model = visiongraft.fit(
            examples.make_dataset(data, 24, 0),
            task=name,
            backbone=given.backbone,
            weights=given.weights,
            size=given.file_size,
            schedule="linear_probe",
            epochs=1,
            batch_size=8,
            device=given.device,
            callbacks=(),
        )
        for precision in ("fp32", "fp16"):
            path = folder / name / f"{precision}.onnx"
            options = {} if precision == "fp32" else {"precision": precision, "budget": 0.05}
            try:
                model.export(path, **options)
            except visiongraft.VisiongraftError as error:
                yield Row("files", f"{name} {precision}", None, "images/s", str(error))
                continue
            yield from providers(given, kind, path, f"{name} {precision}", missing)


def providers(
    given: argparse.Namespace, kind: Any, path: Path, name: str, missing: set[str]
) -> Iterator[Row]:
    """Run one file by every provider, side by side, and compare the results with the CPU's."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (given.file_batch, 256, 256, 3), dtype=np.uint8)
    runs: dict[str, Callable[[], Any]] = {}
    for variant, options in VARIANTS.items():
        if variant in missing:
            continue
        try:
            predictor = Predictor(path, **options)
            predictor.run(images)
        except RuntimeProviderError as error:
            missing.add(variant)  # for every file
            yield Row("files", variant, None, "images/s", str(error))
            continue
        except visiongraft.VisiongraftError as error:
            yield Row("files", f"{name}, {variant}", None, "images/s", str(error))
            continue
        runs[variant] = partial(predictor.run, images)
    compare, expected = kind().export_support().compare, runs["cpu"]()
    times = interleaved(runs, given.seconds)
    for variant, run in runs.items():
        found = compare(expected, run())
        apart = f"{found.difference:.1e} from the CPU, {found.mismatches} changed predictions"
        rate = given.file_batch / statistics.median(times[variant])
        yield Row("files", f"{name}, {variant}", rate, "images/s", apart)


# ---- all ----


def timed(run: Callable[[], None]) -> float:
    """Return the seconds that a function takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def synchronize(given: argparse.Namespace) -> None:
    """Wait for the device."""
    if given.device == "cuda":
        torch.cuda.synchronize()


def measured(given: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Yield the results of all parts; what fails is a result, too."""
    data = write_images(folder / "images", given.images)
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "training": partial(training, given, data),
        "cache": partial(cache, given, data),
        "files": partial(files, given, folder / "files"),
    }
    for name in given.parts:
        part, start = parts[name], time.perf_counter()
        try:
            yield from part()
        except Exception as error:  # of any library; the other parts are still worth measuring
            yield Row(name, "failed", None, "", f"{type(error).__name__}: {error}")
        yield Row(name, "took", time.perf_counter() - start, "s")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--backbone", default="timm/resnet50")
    parser.add_argument("--weights")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=12)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--quick", action="store_true", help="small enough for a CPU, to try the script"
    )
    given = parser.parse_args(arguments)
    given.steps, given.seconds, given.file_batch, given.file_size = 20, 2.0, 16, 224
    if given.quick:
        given.images, given.size, given.batch_size, given.workers = 24, 32, 8, 0
        given.steps, given.seconds, given.file_batch, given.file_size = 1, 0.05, 2, 64
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts."""
    given = parse(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        print(
            "gpu: PyTorch finds no GPU here; --device cpu --quick tries the script", file=sys.stderr
        )
        return 2
    name = torch.cuda.get_device_name() if given.device == "cuda" else "CPU"
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for row in measured(given, Path(folder)):
            print(row, flush=True)
            rows.append(row)
            facts = {"device": name, "torch": torch.__version__, "backbone": given.backbone}
            facts |= {"size": given.size, "batch_size": given.batch_size, "workers": given.workers}
            results = {**facts, "results": [asdict(each) for each in rows]}
            given.out.write_text(json.dumps(results, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
