"""Measure exported files, and the model they came from in PyTorch, on the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from visiongraft.errors import OptionError, type_and_message
from visiongraft.exporters.bench.images import BenchImages
from visiongraft.exporters.bench.timing import interleaved
from visiongraft.exporters.doctor.machine import describe_machine, usable_cores
from visiongraft.exporters.runtime.predictor import Predictor
from visiongraft.system.versions import installed_versions

_LIBRARIES = ("visiongraft", "onnxruntime", "onnxruntime-gpu", "numpy", "torch", "torchvision")
_PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Row:
    """One thing measured at one batch size.

    Attributes:
        name: The file, or ``"PyTorch eager"``, or ``"torch.compile"``.
        provider: Where it ran.
        precision: Of the network: ``"fp32"``, ``"fp16"``, ``"bf16"`` or ``"int8"``.
        megabytes: Size of the file, in 10^6 bytes; ``None`` for PyTorch.
        batch: Images a run.
        runs: How many were timed.
        p50: Median latency of a run, in milliseconds.
        p90: Latency that 90 % of the runs stay under.
        p99: Latency that 99 % stay under; with fewer than 100 runs close to the slowest.
        images_per_second: Throughput, by the median.
        speed: Throughput divided by that of the first row with the same batch.
    """

    name: str
    provider: str
    precision: str
    megabytes: float | None
    batch: int
    runs: int
    p50: float
    p90: float
    p99: float
    images_per_second: float
    speed: float


@dataclass(frozen=True)
class Report:
    """What was measured, and on what.

    Attributes:
        machine: As ``describe_machine`` returns it, and ``threads``.
        versions: Of the libraries.
        images: ``source``, ``height`` and ``width`` before any resize.
        measured: All rows.
        left_out: One line on each thing that could not be measured.
    """

    machine: dict[str, Any]
    versions: dict[str, str]
    images: dict[str, Any]
    measured: tuple[Row, ...]
    left_out: tuple[str, ...] = ()

    COLUMNS: ClassVar[tuple[str, ...]] = (
        *("what", "provider", "precision", "MB", "batch"),
        *("p50 ms", "p90 ms", "p99 ms", "images/s", "speed"),
    )

    def rows(self) -> list[list[str]]:
        """Return the cells of a table."""
        return [
            [
                *(row.name, row.provider, row.precision),
                "" if row.megabytes is None else f"{row.megabytes:.1f}",
                str(row.batch),
                *(f"{value:.2f}" for value in (row.p50, row.p90, row.p99)),
                *(f"{row.images_per_second:.1f}", f"{row.speed:.2f}x"),
            ]
            for row in self.measured
        ]

    def lines(self) -> list[str]:
        """Return lines on the machine, the libraries and the images."""
        machine, images = self.machine, self.images
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        runs = min(row.runs for row in self.measured)
        return [
            f"{machine['cpu']}, {machine['cores']} cores, threads per run: {machine['threads']}",
            f"{versions}, Python {machine['python']}",
            f"images: {images['source']}, {images['height']}x{images['width']} pixels",
            f"at least {runs} runs each, in turn; decoding of files is not included",
            *(f"left out: {line}" for line in self.left_out),
        ]


@dataclass
class _Subject:
    """Something to measure: ``prepare`` returns the call for a batch size."""

    name: str
    provider: str
    precision: str
    megabytes: float | None
    prepare: Callable[[int], Callable[[], object]] = field(repr=False)


def measure(
    files: Sequence[Path],
    *,
    data: Path | None = None,
    batches: Sequence[int] = (1, 8),
    providers: Sequence[str] = ("cpu",),
    threads: int | None = None,
    model: Path | None = None,
    seconds: float = 3.0,
    time_limit: float | None = None,
) -> Report:
    """Measure files side by side.

    Args:
        files: Exported files.
        data: Folder of images; drawn ones if ``None``.
        batches: Images a run.
        providers: Where to run each file.
        threads: Threads of the CPU a run, in onnxruntime and in PyTorch; all cores if ``None``.
        model: Run folder or saved model, measured in PyTorch on the CPU, eager and compiled.
        seconds: Time for each row, after the warm-up.
        time_limit: Seconds after which one run of a file is stopped; ``None`` for no limit.

    Returns:
        The report.

    Raises:
        ArtifactError: A file cannot be loaded.
        DataError: The folder holds no image that can be read.
        RuntimeProviderError: A provider cannot be used here.
    """
    threads = threads or usable_cores()
    images = BenchImages.of(data, max(batches))
    subjects = [
        _file_subject(file, _shown(file, files), provider, threads, images, time_limit)
        for file in files
        for provider in providers
    ]
    left_out: list[str] = []
    with _torch_subjects(model, threads, images) as more:
        rows = [
            row
            for batch in dict.fromkeys(batches)
            for row in _rows(subjects + more, batch, seconds, left_out)
        ]
    return Report(
        {**describe_machine(), "threads": threads},
        installed_versions(*_LIBRARIES if model else _LIBRARIES[:-2]),
        {"source": images.source, "height": images.height, "width": images.width},
        tuple(rows),
        tuple(dict.fromkeys(left_out)),
    )


def _shown(file: Path, files: Sequence[Path]) -> str:
    """Return a file's name, or its path if two files have the same name."""
    return str(file) if sum(other.name == file.name for other in files) > 1 else file.name


def _rows(
    subjects: Sequence[_Subject], batch: int, seconds: float, left_out: list[str]
) -> Iterator[Row]:
    calls: dict[str, Callable[[], object]] = {}
    for index, subject in enumerate(subjects):
        call = subject.prepare(batch)
        try:
            call()
        except Exception as error:  # a compiler may raise anything
            left_out.append(f"{subject.name}: {type_and_message(error)}")
            continue
        calls[str(index)] = call
    if not calls:
        raise OptionError("nothing could be measured: " + "; ".join(left_out))
    times = interleaved(calls, seconds)
    first = float(np.median(next(iter(times.values()))))
    for key, found in times.items():
        subject = subjects[int(key)]
        p50, p90, p99 = (float(np.percentile(found, q)) * 1000 for q in _PERCENTILES)
        yield Row(
            subject.name,
            subject.provider,
            subject.precision,
            subject.megabytes,
            batch,
            len(found),
            p50,
            p90,
            p99,
            images_per_second=batch * 1000 / p50,
            speed=first * 1000 / p50,
        )


def _file_subject(
    file: Path,
    name: str,
    provider: str,
    threads: int,
    images: BenchImages,
    time_limit: float | None,
) -> _Subject:
    predictor = Predictor(file, provider, threads=threads, time_limit=time_limit)

    def prepare(batch: int) -> Callable[[], object]:
        batch_images = images.batch(batch, predictor.input, predictor.metadata.get("preprocess"))
        return lambda: predictor.run(batch_images)

    megabytes = file.stat().st_size / 1e6
    return _Subject(name, provider, predictor.precision, megabytes, prepare)


@contextmanager
def _torch_subjects(
    model: Path | None, threads: int, images: BenchImages
) -> Iterator[list[_Subject]]:
    """Yield a saved model in PyTorch, eager and compiled, while its number of threads is set."""
    if model is None:
        yield []
        return
    import torch

    from visiongraft.model import load

    graph = load(model).inference_graph()
    compiled: Any = torch.compile(graph, dynamic=False)
    channels, inputs = len(graph.preprocess.config.mean), graph.preprocess.inputs

    def subject(name: str, run: Callable[..., object]) -> _Subject:
        def prepare(batch: int) -> Callable[[], object]:
            raw = torch.from_numpy(inputs.from_images(images.raw(batch, channels)))
            return partial(torch.inference_mode()(run), raw)

        return _Subject(name, "cpu", "fp32", None, prepare)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield [subject("PyTorch eager", graph), subject("torch.compile", compiled)]
    finally:
        torch.set_num_threads(before)
