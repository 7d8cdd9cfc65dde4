"""Export to ``torch.export``'s .pt2: one file for PyTorch itself, proved before it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiongraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from visiongraft.exporter import Exporter


@hookimpl
def register_exporters() -> list[type[Exporter]]:
    """Provide the exporter; PyTorch is imported only now."""
    from visiongraft.exporters.pt2.exporter import Pt2Exporter

    return [Pt2Exporter]
