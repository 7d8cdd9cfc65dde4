"""Check an exported file again, wherever it has come to.

Most of it needs what opens the file, and numpy: for ONNX onnxruntime. The metric needs the task's
plugin, which may need PyTorch; the whole comparison needs PyTorch and the model that the file was
made of.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.comparison import Arrays, Disagreement, compare_arrays
from visiongraft.data.listing import list_images
from visiongraft.data.samples import FileSamples, Samples
from visiongraft.errors import (
    ArtifactError,
    DataError,
    ExportError,
    OptionError,
    VisiongraftError,
    one_line,
)
from visiongraft.exported import ExportedModel, open_exported
from visiongraft.exporters.runtime.description import CERTIFICATE, described_input
from visiongraft.exporters.verification.images import (
    BATCHES,
    MAX_SINGLE,
    PLAIN,
    ImageHash,
    RealImages,
    plain_images,
    random_images,
    sizes_around,
    stack_common,
)
from visiongraft.exporters.verification.originals import for_targets

if TYPE_CHECKING:
    from visiongraft.model import TransferModel
    from visiongraft.task import Task

IN_BATCHES = 24  # real images that are given alone and in batches
METRIC_TOLERANCE = 1e-3  # by which float32's metric may differ on another machine
CHANGED = 0.01  # share of a lower precision's decisions that may depend on the batch

Compare = Callable[[Arrays, Arrays], Disagreement]


@dataclass(frozen=True)
class Point:
    """One thing that was looked at.

    Attributes:
        name: What it is.
        passed: ``None`` if it could not be judged, which ``detail`` explains.
        detail: What was found, in one line.
    """

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class FileReport:
    """What a file is found to be.

    Attributes:
        points: All that was looked at.
        headline: Name of the task's metric.
        certified: The metric that the certificate states, if any.
        metric: The metric on the data that were given, if it could be computed.
    """

    points: tuple[Point, ...]
    headline: str
    certified: float | None
    metric: float | None

    @property
    def passed(self) -> bool:
        """Whether nothing was found wrong."""
        return all(point.passed is not False for point in self.points)


def recheck(path: Path, data: str | None = None, model: Path | None = None) -> FileReport:
    """Check a file again.

    Args:
        path: The file.
        data: Labeled images, in any form that its task reads; a folder of images where the
            task's plugin is not at hand.
        model: Run or model folder that the file was made of, to compare with PyTorch. Its held-out
            images serve if ``data`` is ``None``.

    Returns:
        The verdict.

    Raises:
        ArtifactError: The file is missing, unsafe, cannot be run, or has no certificate.
        DataError: The data cannot be read.
    """
    file = _File(path)
    task, absent = _task_of(file)
    trained = None if model is None else _load(model)
    samples = _samples(file, task, data, trained)
    points = [_content(file), _claims(file), _names(file, task, absent)]
    compare: Compare = compare_arrays if task is None else task.export_support().compare
    points.append(_finite(file))
    points += _batches(file, compare, samples)
    metric = None
    if task is None or samples is None:
        why = absent if task is None else "no data was given"
        points.append(Point("metric", None, f"not computed: {why}"))
    else:
        point, metric = _metric(file, task, samples)
        points.append(point)
    if trained is not None:
        points += _against_pytorch(file, trained, samples)
    certified = file.certificate["metric_exported"]
    return FileReport(tuple(points), str(file.certificate["headline"]), certified, metric)


class _File:
    """A file, opened by what is installed for its suffix."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened: ExportedModel = open_exported(path)
        self.metadata = self.opened.metadata
        self.input = described_input(path, self.metadata)
        self.certificate = _certificate(path, self.metadata)
        self.exact = not _is_lower(self.certificate)

    @property
    def network_size(self) -> tuple[int, int]:
        height, width = self.metadata["preprocess"]["size"]
        return int(height), int(width)

    @property
    def size(self) -> tuple[int, int] | None:
        """The only size of raw images that it takes."""
        height, width = self.input.height, self.input.width
        padded = self.metadata["preprocess"]["resize"] == "pad"
        if height is None or width is None or (self.input.kind == "float" and not padded):
            return None
        return height, width

    @property
    def bare_size(self) -> tuple[int, int] | None:
        """The size of the network's input if that is what it takes."""
        return (self.size or self.network_size) if self.input.kind == "float" else None

    def run(self, images: NDArray[np.uint8]) -> Arrays:
        """Give its results for raw images (N, H, W, C)."""
        try:
            if self.input.kind == "uint8":
                return self.opened.run(images)
            return self._run_prepared(images)
        except OptionError:
            raise
        except VisiongraftError as error:
            raise ExportError(str(error)) from error

    def _run_prepared(self, images: NDArray[np.uint8]) -> Arrays:
        try:
            import torch

            from visiongraft.preprocess import Preprocess, PreprocessConfig
        except ImportError as error:
            raise OptionError(
                f"{self.path} takes preprocessed images; to check it needs PyTorch ({error})"
            ) from None
        given = self.metadata["preprocess"].items()
        config: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given}
        with torch.inference_mode():
            prepared = Preprocess(PreprocessConfig(**config))(torch.tensor(images)).numpy()
        if self.input.sizes is None:
            return self.opened.run(prepared)
        sizes = np.tile(np.array([images.shape[1:3]], dtype=np.int64), (len(images), 1))
        opened: Any = self.opened  # of such files it takes the sizes too
        return dict(opened.run(prepared, sizes))


def _certificate(path: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Give the certificate, if it holds what is checked here."""
    certificate = metadata.get(CERTIFICATE)
    number, nothing = (int, float), type(None)
    needed: dict[str, Any] = {
        "checks": list,
        "difference": number,
        "mismatches": int,
        "tolerance": (*number, nothing),
        "budget": number if isinstance(certificate, dict) and _is_lower(certificate) else nothing,
        "headline": str,
        "metric_torch": (*number, nothing),
        "metric_exported": (*number, nothing),
        "precision": str,
    }
    if not isinstance(certificate, dict) or not all(
        isinstance(certificate.get(name), kind) for name, kind in needed.items()
    ):
        raise ArtifactError(f"{path} has no certificate that can be checked; export it again")
    return certificate


def _is_lower(certificate: Mapping[str, Any]) -> bool:
    """Whether it is one of a lower precision, which is held to a budget."""
    return certificate.get("tolerance") is None


def _task_of(file: _File) -> tuple[Task | None, str]:
    """Find the task's plugin, or say why it is not at hand."""
    try:
        from visiongraft.lookup import find_task
        from visiongraft.task import create_task

        kind = find_task(file.metadata["task"], "the exported file", "--plugin FILE.py")
        return create_task(kind, file.metadata["task_options"]), ""
    except ImportError as error:
        return None, f"the task's plugin needs what is not installed ({one_line(error)})"
    except VisiongraftError as error:
        return None, str(error)


def _load(folder: Path) -> TransferModel:
    from visiongraft.model import load

    return load(folder)


def _samples(
    file: _File, task: Task | None, data: str | None, trained: TransferModel | None
) -> Samples | None:
    """Find the images to check on."""
    if trained is not None:
        return trained.proof_samples(data)
    if data is None:
        return None
    if task is not None:
        from visiongraft.data.check import drop_unreadable
        from visiongraft.task_contract import read_evaluation

        return drop_unreadable(read_evaluation(task, data), file.input.channels)[0]
    if not Path(data).is_dir():
        raise DataError(f"{data} is no folder; without the task's plugin, give a folder of images")
    paths = list_images(Path(data))
    if not paths:
        raise DataError(f"{data} holds no images")
    return FileSamples(paths, [None] * len(paths))


def _content(file: _File) -> Point:
    """See whether the bytes are those that were certified."""
    content_sha256 = getattr(file.opened, "content_sha256", None)
    if content_sha256 is None:
        return Point(
            "content", None, f"not compared: the opener of {file.path.suffix} files hashes none"
        )
    found = content_sha256()
    if found is None:
        return Point("content", False, "another program has written the file again or added to it")
    if found != file.certificate["content_sha256"]:
        return Point("content", False, "the bytes are not those that the certificate was made for")
    beside = file.path.with_name(f"{file.path.name}.certificate.json")
    try:
        other = json.loads(beside.read_text()) if beside.is_file() else file.certificate
    except (OSError, ValueError) as error:
        return Point("content", False, f"{beside.name} cannot be read: {one_line(error)}")
    if other != file.certificate:
        return Point("content", False, f"{beside.name} is the certificate of another file")
    return Point("content", True, "every byte is as it was certified")


def _claims(file: _File) -> Point:
    """See whether the certificate's own figures keep its own rules."""
    given = file.certificate
    if file.exact:
        kept = given["mismatches"] == 0 and given["difference"] <= given["tolerance"] <= 1e-4
        words = f"differences at most {given['difference']:.1e}, {given['mismatches']} changed decisions"
    else:
        before, after = given["metric_torch"], given["metric_exported"]
        kept = before is not None and after is not None  # which of them is better, a task knows
        figures = [f"{value:.4f}" if kept else str(value) for value in (after, before)]
        words = f"{given['headline']} {' instead of '.join(figures)}, budget {given['budget']}"
    kept = kept and bool(given["checks"]) and given["precision"] == file.metadata.get("precision")
    return Point("certificate", kept, f"{given['precision']}: {words}")


def _names(file: _File, task: Task | None, absent: str) -> Point:
    """See whether label names and other facts are those that the task's options give."""
    about, options = file.metadata["task_metadata"], file.metadata["task_options"]
    expected = about
    if task is not None:
        expected = json.loads(json.dumps(task.metadata()))
    elif "labels" in options:
        expected = {**about, "labels": options["labels"]}
    if about != expected:
        return Point("names", False, "label names are not those of the task's options")
    if task is None and "labels" not in options:
        return Point("names", None, f"not compared: {absent}")
    return Point("names", True, "as the task's options give them")


def _finite(file: _File) -> Point:
    """Try images without content."""
    images = plain_images(*(file.size or file.network_size), file.input.channels)
    try:
        for some in (images, *(images[i : i + 1] for i in range(len(images)))):
            for name, value in file.run(some).items():
                if not np.isfinite(value).all():
                    return Point("plain images", False, f"{name} is not finite")
    except ExportError as error:
        return Point("plain images", False, str(error))
    return Point("plain images", True, f"finite on {', '.join(PLAIN)} ones")


def _batches(file: _File, compare: Compare, samples: Samples | None) -> Iterator[Point]:
    """See whether images get the same results alone and in batches, at several sizes."""
    if samples is not None:
        yield _same_alone(file, compare, "real images", _real_stacks(file, samples))
    yield _same_alone(file, compare, "random images", _random_stacks(file))


def _same_alone(
    file: _File, compare: Compare, name: str, stacks: Iterator[NDArray[np.uint8]]
) -> Point:
    difference, mismatches, decisions, count, sizes = 0.0, 0, 0, 0, set()
    try:
        for images in stacks:
            alone = [file.run(images[i : i + 1]) for i in range(len(images))]
            joined = {key: np.concatenate([one[key] for one in alone]) for key in alone[0]}
            found = compare(joined, file.run(images))
            difference, mismatches = (
                max(difference, found.difference),
                mismatches + found.mismatches,
            )
            decisions += sum(v.size for v in joined.values() if v.dtype.kind in "iub")
            count += len(images)
            sizes.add(images.shape[1:3])
    except (ExportError, ValueError) as error:  # ValueError: results of no common shape
        return Point(name, False, one_line(error))
    if math.isnan(difference) or math.isinf(difference):
        return Point(name, False, "results in batches differ in shape, or are not finite")
    allowed = 0.0 if file.exact else max(1.0, CHANGED * decisions)
    same = mismatches <= allowed and (not file.exact or difference <= file.certificate["tolerance"])
    words = f"{count} alone and in batches, of {len(sizes)} sizes"
    return Point(
        name, same, f"{words}: difference {difference:.1e}, {mismatches} changed decisions"
    )


def _real_stacks(file: _File, samples: Samples) -> Iterator[NDArray[np.uint8]]:
    real = RealImages(samples, file.input.channels, file.size)
    images = [image for _, _, image in real.load(real.indices(IN_BATCHES))]
    for batch in BATCHES:
        for start in range(0, len(images), batch):
            yield stack_common(images[start : start + batch])


def _random_stacks(file: _File) -> Iterator[NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    sizes: Sequence[tuple[int, int]] = (
        [file.size] if file.size else sizes_around(*file.network_size)
    )
    for batch, (height, width) in zip((*BATCHES, *BATCHES), sizes, strict=False):
        yield random_images(random, batch, height, width, file.input.channels)


def _metric(file: _File, task: Task, samples: Samples) -> tuple[Point, float | None]:
    """Measure the file, and judge it if the images are those of the certificate."""
    real = RealImages(samples, file.input.channels, file.size)
    digest, metrics, images = ImageHash(), task.build_metrics(), 0
    try:
        for index, original, image in real.load(real.indices(MAX_SINGLE)):
            digest.add(original)
            images += 1
            taken, was = image.shape[:2], original.shape[:2]
            found = for_targets(task, file.run(image[None]), file.bare_size, taken, was)
            metrics.update(found, task.collate([samples.target(index)]))
        value = metrics.compute()[task.headline]
    except ExportError as error:
        return Point("metric", False, str(error)), None
    except DataError:
        raise
    except Exception as error:  # what a metric makes of results of another form
        return Point("metric", False, f"the task cannot measure it: {one_line(error)}"), None
    if value is None or not math.isfinite(value):
        return Point("metric", None, f"{task.headline} is over nothing in these images"), None
    return _judged(file, task, images, float(value), digest.hexdigest()), float(value)


def _judged(file: _File, task: Task, images: int, value: float, sha256: str) -> Point:
    given = file.certificate
    words = f"{task.headline} {value:.4f} on {images} images"
    if given["metric_exported"] is None or sha256 != given["data_sha256"]:
        return Point("metric", None, f"{words}, which are not those of the certificate")
    if file.exact:
        apart = abs(value - given["metric_exported"])
        kept = apart <= METRIC_TOLERANCE * max(1.0, abs(given["metric_exported"]))
        return Point("metric", kept, f"{words}; certified: {given['metric_exported']:.4f}")
    lost = given["metric_torch"] - value
    lost = lost if task.better == "higher" else -lost
    kept = lost <= given["budget"] + 1e-9
    words = f"{words}; in float32 {given['metric_torch']:.4f}, budget {given['budget']}"
    return Point("metric", kept, words)


def _against_pytorch(
    file: _File, trained: TransferModel, samples: Samples | None
) -> Iterator[Point]:
    """Repeat the exporter's own proof."""
    from visiongraft.exporters.verification.proof import verify

    expected = json.loads(json.dumps(trained.task.options()))
    same = file.metadata["task"] == trained.task.name and file.metadata["task_options"] == expected
    yield Point("task", same, "that of the model" if same else "the model has another, or options")
    graph = trained.inference_graph()
    more: dict[str, Any] = {}
    if file.input.kind == "float":
        from visiongraft.exporters.onnx.variants import FloatGraph
        from visiongraft.exporters.onnx.verify import reference_of

        graph = FloatGraph(graph)
        more = {"reference": reference_of(graph), "bare": file.bare_size}
    budget = None if file.exact else float(file.certificate["budget"])
    try:
        findings = verify(file.run, graph, samples, file.size, budget=budget, **more)
    except ExportError as error:
        yield Point("PyTorch", False, str(error))
        return
    worst = max(check.difference for check in findings.checks)
    mismatches = sum(check.mismatches for check in findings.checks)
    words = f"differences at most {worst:.1e}, {mismatches} changed decisions"
    near_ties = sum(check.near_ties for check in findings.checks)
    if near_ties:
        words += f" ({near_ties} images undecided in PyTorch itself)"
    yield Point("PyTorch", True, f"{words} in {len(findings.checks)} comparisons")
