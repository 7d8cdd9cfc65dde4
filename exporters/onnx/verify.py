"""Prove that an ONNX file gives what PyTorch gives, decision by decision."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from visiongraft.data.samples import Image, Samples
from visiongraft.errors import DataError, ExportError
from visiongraft.exporter import Check
from visiongraft.exporters.capture import one_line
from visiongraft.exporters.onnx.graph import INPUT
from visiongraft.network import InferenceGraph
from visiongraft.task import Task

TOLERANCE = 1e-4  # relative to the largest reference value; float32 kernels differ by 1e-6 to 1e-5
MAX_IN_BATCHES = 64
MAX_SINGLE = 1000
_BATCH = 3
_SIZES_NAMED = 20

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Findings:
    """What the comparisons showed.

    Attributes:
        checks: Every comparison; each one passed.
        metric_torch: The task's headline in PyTorch on the real pictures, or ``None``.
        metric_exported: The same for the file.
        data_sha256: Hash over sizes and values of those pictures, in order, or ``None``.
        warnings: One line each on what was left out.
    """

    checks: tuple[Check, ...]
    metric_torch: float | None
    metric_exported: float | None
    data_sha256: str | None
    warnings: tuple[str, ...]


def verify(
    file: Path,
    graph: InferenceGraph,
    samples: Samples | None,
    size: tuple[int, int] | None = None,
) -> Findings:
    """Run a file in onnxruntime on the CPU, next to PyTorch, and compare through the task.

    Up to 64 real pictures go in batches of three: pictures that follow each other in the data;
    where their sizes differ, the central part of each that has the smallest height and width among
    them. Random pictures of several sizes go in batches of one and of three. Then up to 1000 real
    pictures go one by one at their own sizes, and the task's metric is computed for both sides. If
    there are more real pictures than that, evenly spaced ones are taken.

    Args:
        file: The ONNX file.
        graph: The reference, in evaluation mode, float32, on the CPU.
        samples: Real pictures with targets, or ``None``.
        size: Height and width of a file whose input size is fixed; all pictures are then resized
            to it first.

    Returns:
        What was found.

    Raises:
        ExportError: An output differs by more than ``TOLERANCE`` or a decision changed; the message
            names the worst picture. Or the file does not run.
        DataError: None of the real pictures can be read.
    """
    pair = _Pair(file, graph)
    config = graph.preprocess.config
    checks: list[Check] = []
    real = None if samples is None or not len(samples) else _Real(samples, len(config.mean), size)
    if real is not None:
        checks.append(_compare_batches(pair, real))
    for batch in (1, _BATCH):
        checks.append(_compare_random(pair, size, batch))
    if real is None:
        return Findings(tuple(checks), None, None, None, (_NO_PICTURES,))
    single, metric_torch, metric_exported, sha256 = _compare_single(pair, real)
    checks.append(single)
    return Findings(tuple(checks), metric_torch, metric_exported, sha256, real.warnings())


_NO_PICTURES = "no real picture was tried; export with data to compare on what the model will see"


class _Pair:
    """The reference and the file under test."""

    def __init__(self, file: Path, graph: InferenceGraph) -> None:
        self.graph = graph
        self.task: Task = graph.task
        try:
            self.session = onnxruntime.InferenceSession(
                str(file), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no base
            raise ExportError(f"onnxruntime cannot load the file: {one_line(error)}") from error
        self.names = [output.name for output in self.session.get_outputs()]

    def run(self, images: NDArray[np.uint8]) -> tuple[Arrays, Arrays]:
        """Give PyTorch's and the file's results for uint8 (N, H, W, C)."""
        try:
            side = "PyTorch"
            with torch.inference_mode():
                decoded = self.graph(torch.tensor(images))  # decoded pictures are read-only
            side = "the exported file"
            values = self.session.run(None, {INPUT: images})
        except Exception as error:  # neither's exceptions share a base
            batch, height, width, _ = images.shape
            raise ExportError(
                f"{side} fails on {batch} pictures of {height}x{width} pixels: {one_line(error)}"
            ) from error
        reference = {name: tensor.numpy() for name, tensor in decoded.items()}
        return reference, dict(zip(self.names, values, strict=True))


@dataclass
class _Tally:
    """Adds up one check."""

    task: Task
    inputs: str
    batch: int
    pictures: int = 0
    sizes: set[tuple[int, int]] = field(default_factory=set)
    difference: float = 0.0
    flips: int = 0
    worst: tuple[float, float] = (-1.0, -1.0)
    place: str = ""
    name: str = ""

    def add(
        self,
        results: tuple[Arrays, Arrays],
        size: tuple[int, int],
        places: Sequence[str],
        names: Sequence[str],
    ) -> None:
        """Take one batch in; ``places`` go into the certificate, ``names`` into messages."""
        reference, candidate = results
        found = self.task.compare(reference, candidate)
        difference = math.inf if math.isnan(found.difference) else found.difference
        self.sizes.add(size)
        self.difference = max(self.difference, difference)
        self.flips += found.flips
        if (found.flips, difference) <= self.worst:
            return
        self.worst = (found.flips, difference)
        each = [
            self.task.compare(_one(reference, i), _one(candidate, i)) for i in range(len(names))
        ]
        index = max(range(len(names)), key=lambda i: (each[i].flips, each[i].difference))
        self.place, self.name = places[index], f"{names[index]} ({size[0]}x{size[1]})"

    def result(self) -> Check:
        """Give the check, if it passed."""
        if self.flips or self.difference > TOLERANCE:
            raise ExportError(
                f"the exported file disagrees with PyTorch in batches of {self.batch}, most on "
                f"{self.name}: {self._figures()}"
            )
        by_area = sorted(self.sizes, key=lambda s: (s[0] * s[1], s))
        spaced = np.linspace(0, len(by_area) - 1, min(len(by_area), _SIZES_NAMED)).round()
        sizes = tuple(by_area[int(i)] for i in spaced)
        return Check(
            self.inputs,
            self.batch,
            self.pictures,
            sizes,
            self.difference,
            self.flips,
            self.place,
        )

    def _figures(self) -> str:
        difference = (
            f"relative difference {self.difference:.1e}, at most {TOLERANCE:.0e} is accepted"
            if math.isfinite(self.difference)
            else "outputs differ in name or shape, or are not finite"
        )
        counted = f"{difference}; {self.flips} changed decisions in {self.pictures} pictures"
        if self.flips or not math.isfinite(self.difference):
            return counted
        return (
            f"{counted}; the network magnifies rounding: train it at a lower rate, for fewer "
            "epochs, or with smoothed labels"
        )


class _Real:
    """Real pictures, decoded one by one."""

    def __init__(self, samples: Samples, channels: int, size: tuple[int, int] | None) -> None:
        self.samples = samples
        self.channels = channels
        self.size = size
        self.unreadable: dict[int, str] = {}

    def indices(self, limit: int) -> list[int]:
        """Choose at most so many pictures, evenly spaced over all."""
        count = len(self.samples)
        return [i * count // limit for i in range(limit)] if count > limit else list(range(count))

    def load(self, indices: Sequence[int]) -> Iterator[tuple[int, Image, Image]]:
        """Give index, decoded picture and network input of each readable picture."""
        readable = 0
        for index in indices:
            try:
                image = self.samples.load(index, self.channels)
            except DataError as error:
                self.unreadable[index] = str(error)
                continue
            readable += 1
            yield index, image, image if self.size is None else _resized(image, self.size)
        if not readable:
            first = next(iter(self.unreadable.values()))
            raise DataError(f"none of {len(indices)} pictures to verify on can be read: {first}")

    def warnings(self) -> tuple[str, ...]:
        """Say what was left out or changed."""
        count = len(self.samples)
        found = []
        if count > MAX_SINGLE:
            found.append(f"{MAX_SINGLE} of {count} real pictures were tried, evenly spaced")
        if self.unreadable:
            found.append(f"{len(self.unreadable)} unreadable pictures were left out")
        if self.size is not None:
            found.append(f"all pictures were resized to {self.size[0]}x{self.size[1]} first")
        return tuple(found)


def _compare_batches(pair: _Pair, real: _Real) -> Check:
    tally = _Tally(pair.task, "real", _BATCH)
    group: list[tuple[int, Image]] = []
    first: list[tuple[int, Image]] = []

    def run() -> None:
        images = _common_size([image for _, image in group])
        places = [_place(index) for index, _ in group]
        names = [real.samples.name(index) for index, _ in group]
        tally.add(pair.run(images), images.shape[1:3], places, names)
        group.clear()

    for index, _, image in real.load(real.indices(MAX_IN_BATCHES)):
        tally.pictures += 1
        group.append((index, image))
        if len(first) < _BATCH:
            first.append((index, image))
        if len(group) == _BATCH:
            run()
    if group:  # filled up with the first ones, so that every batch has the same length
        group += (first * _BATCH)[: _BATCH - len(group)]
        run()
    return tally.result()


def _compare_single(pair: _Pair, real: _Real) -> tuple[Check, float | None, float | None, str]:
    tally = _Tally(pair.task, "real", 1)
    metrics = pair.task.build_metrics(), pair.task.build_metrics()
    digest = hashlib.sha256()
    for index, original, image in real.load(real.indices(MAX_SINGLE)):
        tally.pictures += 1
        digest.update(repr(original.shape).encode() + original.tobytes())
        results = pair.run(image[None])
        size = (image.shape[0], image.shape[1])
        tally.add(results, size, [_place(index)], [real.samples.name(index)])
        for metric, decoded in zip(metrics, results, strict=True):
            metric.update(decoded, pair.task.collate([real.samples.target(index)]))
    check = tally.result()
    headline = pair.task.headline
    torch_value, exported_value = (_finite(m.compute()[headline]) for m in metrics)
    return check, torch_value, exported_value, digest.hexdigest()


def _compare_random(pair: _Pair, size: tuple[int, int] | None, batch: int) -> Check:
    tally = _Tally(pair.task, "random", batch)
    config = pair.graph.preprocess.config
    random = np.random.default_rng(batch)
    for height, width in [size] if size else _sizes(*config.size):
        images = _random_pictures(random, batch, height, width, len(config.mean))
        names = [f"random picture {i + 1} of {batch}" for i in range(batch)]
        tally.pictures += batch
        tally.add(pair.run(images), (height, width), names, names)
    return tally.result()


def _sizes(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Give picture sizes around a network's: its own, smaller, landscape and portrait."""
    return (
        (height, width),
        (height * 2 // 3 + 1, width * 4 // 5 + 1),
        (height + height // 2, 2 * width + 37),
        (2 * height + 41, width + width // 2),
    )


def _random_pictures(
    random: np.random.Generator, count: int, height: int, width: int, channels: int
) -> NDArray[np.uint8]:
    """Make coloured blocks under noise: noise alone would shrink to an even grey."""
    rows, columns = (np.arange(n) * 7 // n for n in (height, width))
    blocks = random.integers(0, 256, (count, 7, 7, channels))[:, rows][:, :, columns]
    noise = random.integers(-40, 41, (count, height, width, channels))
    return (blocks + noise).clip(0, 255).astype(np.uint8)


def _common_size(images: Sequence[Image]) -> NDArray[np.uint8]:
    """Stack the central parts of pictures, as large as the smallest height and width."""
    height, width = (min(image.shape[axis] for image in images) for axis in (0, 1))
    parts = []
    for image in images:
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        parts.append(image[top : top + height, left : left + width])
    return np.stack(parts)


def _resized(image: Image, size: tuple[int, int]) -> Image:
    x = torch.tensor(image).permute(2, 0, 1)[None].float()
    x = F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
    resized: Image = x[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
    return resized


def _one(arrays: Arrays, index: int) -> Arrays:
    return {name: np.atleast_1d(value)[index : index + 1] for name, value in arrays.items()}


def _finite(value: float) -> float | None:
    """JSON has no word for what a metric is over no pictures."""
    return float(value) if math.isfinite(value) else None


def _place(index: int) -> str:
    return f"picture {index}"
