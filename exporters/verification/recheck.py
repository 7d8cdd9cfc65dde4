"""Check an exported file again, on any machine.

Most checks need the predictor for the file's format, and numpy: for ONNX onnxruntime. The metric
needs the task's plugin, which may need PyTorch; the whole comparison needs PyTorch and the model
that the file was made from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiongraft.certificate import Comparison
from visiongraft.comparison import compare_arrays
from visiongraft.data.samples import Samples
from visiongraft.errors import (
    DataError,
    ExportError,
    OptionError,
    VisiongraftError,
    escape_unprintable,
    name_some,
    one_line,
)
from visiongraft.exporters.runtime.description import metadata_sha256
from visiongraft.exporters.verification.certified_comparison import compare_certified
from visiongraft.exporters.verification.certified_file import CertifiedFile
from visiongraft.exporters.verification.certified_results import MOST
from visiongraft.exporters.verification.metric import HeadlineMeter, worsening
from visiongraft.exporters.verification.trial_images import (
    BATCHES,
    MAX_SINGLE,
    PLAIN,
    ImageHash,
    RealImages,
)
from visiongraft.exporters.verification.trials import Trials
from visiongraft.inputs.samples import InputSamples
from visiongraft.system.progress import track
from visiongraft.verification.engine import TOLERANCE, Compare, Pair, SingleImages

if TYPE_CHECKING:
    from visiongraft.model import TransferModel
    from visiongraft.task import Task

IN_BATCHES = 24  # real images that run alone and in batches
METRIC_TOLERANCE = 1e-3  # by which the metric in float32 may differ on another machine
_OLDER = "this file's exporter, or its version, recorded none"
_SHOWN = 3  # differences from the model
CHANGED = 0.01  # fraction of a lower precision's predictions that may depend on the batch


@dataclass(frozen=True)
class FileCheck:
    """One thing that was checked.

    Attributes:
        name: Its name.
        passed: ``None`` if it could not be judged, for the reason in ``detail``.
        detail: The result, in one line.
    """

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class FileReport:
    """The result of checking a file.

    Attributes:
        checks: Everything that was checked.
        headline: Name of the task's metric.
        certified: The metric in the certificate, if any.
        metric: The metric on the data, if it could be computed.
    """

    checks: tuple[FileCheck, ...]
    headline: str
    certified: float | None
    metric: float | None

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed is not False for check in self.checks)


def recheck(
    path: Path,
    data: str | None = None,
    model: Path | None = None,
    time_limit: float | None = None,
) -> FileReport:
    """Check a file again.

    Args:
        path: The file.
        data: Labeled images, in any form that its task reads; a folder of images if the task's
            plugin is not installed.
        model: Run or model folder that the file was made from, to compare with PyTorch. Its
            validation images serve if ``data`` is ``None``.
        time_limit: Seconds after which a run of the file is stopped; ``None`` for no limit.

    Returns:
        The report.

    Raises:
        ArtifactError: The file is missing, unsafe, cannot be run, or has no certificate.
        DataError: The data cannot be read.
    """
    file = CertifiedFile(path, time_limit)
    task, absent = _task_of(file)
    trained = None if model is None else _load(model)
    samples = _samples(file, task, data, trained)
    checks = [_content(file), _metadata(file), _claims(file), _names(file, task, absent)]
    checks += [_certified(file), _plain(file)]
    checks += _batches(
        file, compare_arrays if task is None else task.export_support().compare, samples
    )
    metric = None
    if task is None or samples is None:
        why = absent if task is None else "no data was passed"
        checks.append(FileCheck("metric", None, f"not computed: {why}"))
    else:
        check, metric = _metric(file, task, samples)
        checks.append(check)
    if trained is not None:
        checks += _against_pytorch(file, trained, samples)
    certified = file.certificate["metric_exported"]
    return FileReport(tuple(checks), str(file.certificate["headline"]), certified, metric)


def _task_of(file: CertifiedFile) -> tuple[Task | None, str]:
    """Find the task's plugin, or the reason why it is not available."""
    try:
        from visiongraft.lookup.tasks import find_exported_task

        return find_exported_task(file.metadata), ""
    except ImportError as error:
        cause = one_line(error)
        return None, f"the task's plugin needs a package that is not installed ({cause})"
    except VisiongraftError as error:
        return None, str(error)


def _load(folder: Path) -> TransferModel:
    from visiongraft.model import load

    return load(folder)


def _samples(
    file: CertifiedFile, task: Task | None, data: str | None, trained: TransferModel | None
) -> Samples | None:
    """Find the images to check on."""
    if trained is not None:
        return trained.proof_samples(data)
    if data is None:
        return None
    if task is not None:
        from visiongraft.training.measuring.evaluation_data import prepare_evaluation

        return prepare_evaluation(task, data, file.input.channels).samples
    if not Path(data).is_dir():
        raise DataError(
            f"{data} is not a folder; without the task's plugin, pass a folder of images"
        )
    return InputSamples.of(Path(data), file.input.inputs)


def _content(file: CertifiedFile) -> FileCheck:
    """Check whether the bytes are those that were certified."""
    content_sha256 = getattr(file.opened, "content_sha256", None)
    if content_sha256 is None:
        return FileCheck(
            "content", None, f"not compared: the predictor of {file.path.suffix} files hashes none"
        )
    found = content_sha256()
    if found is None:
        return FileCheck(
            "content", False, "another program has rewritten the file or appended to it"
        )
    if found != file.certificate.get("content_sha256"):
        return FileCheck("content", False, "the bytes are not those that were certified")
    beside = file.path.with_name(f"{file.path.name}.certificate.json")
    try:
        other = json.loads(beside.read_text()) if beside.is_file() else file.certificate
    except (OSError, ValueError) as error:
        return FileCheck("content", False, f"{beside.name} cannot be read: {one_line(error)}")
    if other != file.certificate:
        return FileCheck("content", False, f"{beside.name} is the certificate of another file")
    return FileCheck("content", True, "every byte is as certified")


def _known(facts: Any) -> dict[str, Any]:
    """Leave out what is unknown, which certificates state for licenses only."""
    values = facts if isinstance(facts, dict) else {}
    return {key: value for key, value in values.items() if value != "unknown"}


def _metadata(file: CertifiedFile) -> FileCheck:
    """Check whether the metadata are those that were certified, and fit the certificate."""
    given, metadata = file.certificate, file.metadata
    if given.get("metadata_sha256") is None:
        return FileCheck("metadata", None, f"not compared: {_OLDER}")
    if metadata_sha256(metadata) != given["metadata_sha256"]:
        return FileCheck("metadata", False, "a value is not the one that was certified")
    wrong = [name for name in ("precision", "versions") if metadata.get(name) != given.get(name)]
    backbone = metadata.get("backbone")
    if isinstance(backbone, dict) and isinstance(provenance := backbone.get("provenance"), dict):
        facts = {"name": backbone.get("name"), **provenance}
        wrong += ["backbone"] * (_known(facts) != _known(given.get("backbone")))
    training = metadata.get("training")
    private = training.get("privacy") if isinstance(training, dict) else None
    wrong += ["privacy"] * ((private or {}) != given.get("privacy", {}))
    if wrong:
        other = "the certificate names another one"
        return FileCheck("metadata", False, f"{', '.join(wrong)}: {other}")
    return FileCheck("metadata", True, f"{len(metadata) - 1} values are as certified")


def _certified(file: CertifiedFile) -> FileCheck:
    """Check whether results for seeded images are those that were certified."""
    name = "certified results"
    if not file.certified:
        return FileCheck(name, None, f"not compared: {_OLDER}")
    try:
        most = TOLERANCE if file.same_kernels else MOST
        spec = file.input
        found = compare_certified(file.run, file.certified, spec.channels, most, spec.inputs)
    except ExportError as error:
        return FileCheck(name, False, str(error))
    if found.problem:
        return FileCheck(name, False, found.problem)
    ties = f" ({found.near_ties} near-ties)" if found.near_ties else ""
    left = f", {found.left_out} left out as near-ties," if found.left_out else ""
    other = not file.exact and not file.same_kernels
    loosely = (
        "; loosely, since the processor or the runtime is not that of the export" if other else ""
    )
    return FileCheck(
        name,
        True,
        f"{found.numbers} numbers as certified{left} on {found.images} seeded images{ties} of "
        f"{found.sizes[0]} to {found.sizes[1]} pixels, in batches of up to {found.largest_batch}{loosely}",
    )


def _claims(file: CertifiedFile) -> FileCheck:
    """Check whether the certificate's own figures keep its own rules."""
    given = file.certificate
    if file.exact:
        kept = given["mismatches"] == 0 and given["difference"] <= given["tolerance"] <= 1e-4
        words = f"differences at most {given['difference']:.1e}, {given['mismatches']} changed predictions"
    else:
        before, after = given["metric_torch"], given["metric_exported"]
        kept = before is not None and after is not None  # only the task knows which is better
        figures = [f"{value:.4f}" if kept else str(value) for value in (after, before)]
        words = f"{given['headline']} {' instead of '.join(figures)}, budget {given['budget']}"
    same = given["precision"] == file.metadata.get("precision")
    kept = kept and bool(given["comparisons"]) and same
    return FileCheck("certificate", kept, f"{given['precision']}: {words}")


def _names(file: CertifiedFile, task: Task | None, absent: str) -> FileCheck:
    """Check whether class names and other facts follow from the task's options."""
    about, options = file.metadata["task_metadata"], file.metadata["task_options"]
    expected = about
    if task is not None:
        expected = json.loads(json.dumps(task.metadata()))
    elif "class_names" in options:
        expected = {**about, "class_names": options["class_names"]}
    if about != expected:
        return FileCheck("names", False, "class names are not those of the task's options")
    if task is None and "class_names" not in options:
        return FileCheck("names", None, f"not compared: {absent}")
    return FileCheck("names", True, "as in the task's options")


def _trials(file: CertifiedFile, measure: Compare, tolerance: float | None) -> Trials:
    """Compare the file in batches with itself on single images."""
    single = SingleImages(file.run)
    pair = Pair(single, file.run, measure, tolerance, file.extras, file.input.inputs)
    return Trials(pair, file.network_size, file.input.channels, file.fixed_size)


def _plain(file: CertifiedFile) -> FileCheck:
    """Check whether all results are finite on images without content, alone and in a batch."""
    try:
        _trials(file, compare_arrays, None).on_plain(len(PLAIN))
    except ExportError as error:
        return FileCheck("plain images", False, str(error))
    return FileCheck("plain images", True, f"finite on {', '.join(PLAIN)} images")


def _batches(file: CertifiedFile, measure: Compare, samples: Samples | None) -> Iterator[FileCheck]:
    """Check whether images get the same results alone and in batches, at several sizes."""
    trials = _trials(file, measure, file.certificate["tolerance"])
    if samples is not None:
        real = RealImages(samples, file.input.channels, file.fixed_size, file.input.inputs)
        found = (trials.in_batches(real, batch, IN_BATCHES) for batch in BATCHES)
        yield _same_alone(file, "real images", found)
    yield _same_alone(file, "random images", (trials.on_random(batch) for batch in BATCHES))


def _same_alone(file: CertifiedFile, name: str, comparisons: Iterator[Comparison]) -> FileCheck:
    try:
        found = tuple(comparisons)
    except ExportError as error:
        return FileCheck(name, False, str(error))
    mismatches, predictions = (
        sum(getattr(c, n) for c in found) for n in ("mismatches", "predictions")
    )
    same = file.exact or mismatches <= max(1.0, CHANGED * predictions)
    return FileCheck(name, same, f"alone and in batches: {_summary(found)}")


def _metric(file: CertifiedFile, task: Task, samples: Samples) -> tuple[FileCheck, float | None]:
    """Measure the file, and judge it if the images are those of the certificate."""
    real = RealImages(samples, file.input.channels, file.fixed_size, file.input.inputs)
    digest, meter, count = ImageHash(), HeadlineMeter(task, samples, file.map_size, file.extras), 0
    try:
        chosen = real.indices(MAX_SINGLE)
        for image in track(real.load(chosen), "measuring", len(chosen)):
            digest.add(image.original)
            count += 1
            meter.add(image, file.run(image.pixels[None]))
        value = meter.value()
    except ExportError as error:
        return FileCheck("metric", False, str(error)), None
    except DataError:
        raise
    except Exception as error:  # a metric may raise anything on results of another form
        return FileCheck("metric", False, f"the task cannot measure it: {one_line(error)}"), None
    if value is None:
        return FileCheck("metric", None, f"{task.headline} is undefined on these images"), None
    return _judged(file, task, count, value, digest.hexdigest()), value


def _judged(file: CertifiedFile, task: Task, images: int, value: float, sha256: str) -> FileCheck:
    given = file.certificate
    words = f"{task.headline} {value:.4f} on {images} images"
    if given["metric_exported"] is None or sha256 != given.get("data_sha256"):
        return FileCheck("metric", None, f"{words}, which are not those of the certificate")
    if file.exact:
        apart = abs(value - given["metric_exported"])
        kept = apart <= METRIC_TOLERANCE * max(1.0, abs(given["metric_exported"]))
        return FileCheck("metric", kept, f"{words}; certified: {given['metric_exported']:.4f}")
    kept = worsening(task, given["metric_torch"], value) <= given["budget"] + 1e-9
    words = f"{words}; in float32 {given['metric_torch']:.4f}, budget {given['budget']}"
    return FileCheck("metric", kept, words)


def _model(file: CertifiedFile, trained: TransferModel) -> FileCheck:
    """Check whether the file describes this model."""
    from visiongraft.exporters.verification.description import compare_description

    same, changes = compare_description(file.metadata, trained)
    if changes:
        more = len(changes) - _SHOWN
        words = "; ".join(changes[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        return FileCheck("model", False, escape_unprintable(words))
    return FileCheck("model", True, f"{name_some(same, len(same))} are those of the model")


def _against_pytorch(
    file: CertifiedFile, trained: TransferModel, samples: Samples | None
) -> Iterator[FileCheck]:
    """Repeat the exporter's own proof."""
    from visiongraft.exporters.float_graph import FloatGraph
    from visiongraft.exporters.verification.proof import verify

    yield _model(file, trained)
    try:
        graph = trained.inference_graph(file.extras)
    except OptionError as error:
        yield FileCheck("PyTorch", False, str(error))
        return
    graph = FloatGraph(graph) if file.input.kind == "float" else graph
    budget = None if file.exact else float(file.certificate["budget"])
    try:
        findings = verify(file.run, graph, samples, file.fixed_size, budget=budget, certify=False)
    except ExportError as error:
        yield FileCheck("PyTorch", False, str(error))
        return
    yield FileCheck("PyTorch", True, _summary(findings.comparisons))


def _summary(comparisons: Sequence[Comparison]) -> str:
    images, mismatches, near_ties = (
        sum(getattr(c, name) for c in comparisons) for name in ("images", "mismatches", "near_ties")
    )
    ties = f" ({near_ties} near-ties in PyTorch itself)" if near_ties else ""
    return (
        f"differences at most {max(c.difference for c in comparisons):.1e}, {mismatches} changed "
        f"predictions{ties} in {len(comparisons)} comparisons of {images} images"
    )
