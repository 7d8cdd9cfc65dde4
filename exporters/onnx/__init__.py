"""Export to ONNX: one file, raw images in and final predictions out, proved before it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiongraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from visiongraft.exporter import Exporter


@hookimpl
def register_exporters() -> list[type[Exporter]]:
    """Provide the exporter; PyTorch is imported only now."""
    from visiongraft.exporters.onnx.exporter import OnnxExporter

    return [OnnxExporter]
