"""The exporter: trace, write aside, prove, then move into place."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import onnx

from visiongraft.errors import ExportError, OptionError, VisiongraftError, near_matches
from visiongraft.exporter import Certificate, Exporter
from visiongraft.exporters.capture import one_line
from visiongraft.exporters.onnx.graph import EXPORTER, check_model, trace
from visiongraft.exporters.onnx.metadata import as_properties, describe, versions
from visiongraft.exporters.onnx.verify import TOLERANCE, Findings, verify
from visiongraft.exporters.onnx_file import MAX_BYTES
from visiongraft.files import write_json
from visiongraft.preprocess import as_size

if TYPE_CHECKING:
    from visiongraft.data.samples import Samples
    from visiongraft.model import TransferModel
    from visiongraft.network import InferenceGraph
    from visiongraft.task import Task

log = logging.getLogger("visiongraft")


class OnnxExporter(Exporter):
    """Writes one ONNX file with preprocessing and final predictions inside."""

    name: ClassVar[str] = EXPORTER
    suffix: ClassVar[str] = ".onnx"

    def export(
        self, model: TransferModel, path: Path, samples: Samples | None, **options: Any
    ) -> Certificate:
        """Export and verify.

        Args:
            model: The trained model.
            path: Where the file goes; the certificate goes beside it, as
                ``<file>.certificate.json``.
            samples: Real pictures with targets to verify on, or ``None``.
            options: ``size`` fixes height and width of the input, for a task that cannot be
                exported for pictures of any size. A network that sees pictures at their own size
                (``resize="pad"``) and disagrees at sizes other than the traced one is fixed to its
                training size unasked, with a warning in the certificate.

        Returns:
            The certificate, also in the file's metadata.

        Raises:
            ExportError: The file could not be made or disagrees with PyTorch; no file is left, and
                an older one at ``path`` stays as it was.
            OptionError: An option is unknown, or ``path`` is a folder.
        """
        size = _size_option(options)
        if path.is_dir():
            raise OptionError(f"{path} is a folder; name a file in it, such as {path / 'x.onnx'}")
        with _written_aside(path) as temporary:
            findings = _write_proved(temporary, model, samples, size)
            certificate = _certificate(path, findings, model.task)
            # Appending a field to a message leaves the bytes that were verified as they are.
            addition = onnx.ModelProto()
            properties = as_properties({"certificate": certificate.to_json()})
            onnx.helper.set_model_props(addition, properties)
            _append(temporary, addition)
            os.replace(temporary, path)
        write_json(path.with_name(f"{path.name}.certificate.json"), certificate.to_json())
        return certificate


def _size_option(options: dict[str, Any]) -> tuple[int, int] | None:
    for name in options:
        if name != "size":
            near = near_matches(name, ["size"])
            raise OptionError(f"the onnx exporter has no option {name!r}{near}")
    return as_size(options.get("size"))


@contextmanager
def _written_aside(path: Path) -> Iterator[Path]:
    """Give an empty temporary file in the target's folder; it never outlives the block."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left_over in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            left_over.unlink()  # of an export that was killed
        temporary.touch()
        yield temporary
    except OSError as error:
        raise VisiongraftError(
            f"{path} cannot be written: {error.strerror or error}; free some space or choose "
            "another folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _write_proved(
    file: Path, model: TransferModel, samples: Samples | None, size: tuple[int, int] | None
) -> Findings:
    graph = model.inference_graph()
    config = graph.preprocess.config
    try:
        _write_graph(file, model, graph, size)
        return verify(file, graph, samples, size)
    except ExportError as error:
        if size is not None or config.resize != "pad":
            raise
        file.write_bytes(b"")
        _write_graph(file, model, graph, config.size)
        findings = verify(file, graph, samples, config.size)
        log.info("no file for pictures of any size: %s", error)  # it may name a picture's file
        height, width = config.size
        warning = (
            f"the input is fixed to {height}x{width} pixels (size= chooses), since no file for "
            "pictures of any size agrees with PyTorch"
        )
        return replace(findings, warnings=(warning, *findings.warnings))


def _write_graph(
    file: Path, model: TransferModel, graph: InferenceGraph, size: tuple[int, int] | None
) -> None:
    exported = trace(graph, size)
    onnx.helper.set_model_props(exported, as_properties(describe(model, exported, size)))
    _append(file, exported)
    _check_file(file, graph, size)


def _append(file: Path, model: onnx.ModelProto) -> None:
    if model.ByteSize() > MAX_BYTES:
        raise ExportError(f"the model has {model.ByteSize()} bytes; one file can hold {MAX_BYTES}")
    with open(file, "ab") as stream:
        stream.write(model.SerializeToString())
        stream.flush()
        os.fsync(stream.fileno())


def _check_file(file: Path, graph: InferenceGraph, size: tuple[int, int] | None) -> None:
    """Check the file as it lies on the disk, not what is still in memory."""
    try:
        onnx.checker.check_model(str(file), full_check=True)
    except Exception as error:  # the checker's exceptions share no base
        raise ExportError(f"the exported file is no valid ONNX: {one_line(error)}") from error
    check_model(onnx.load(file), graph.preprocess.config, size_is_fixed=size is not None)


def _certificate(path: Path, findings: Findings, task: Task) -> Certificate:
    return Certificate(
        file=path.name,
        format=OnnxExporter.name,
        checks=findings.checks,
        tolerance=TOLERANCE,
        headline=task.headline,
        metric_torch=findings.metric_torch,
        metric_exported=findings.metric_exported,
        data_sha256=findings.data_sha256,
        versions=versions(),
        warnings=findings.warnings,
    )
