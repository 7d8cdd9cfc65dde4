"""Object detection: find objects in an image, with box, class and score of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiongraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from visiongraft.backbone import BackboneSource
    from visiongraft.reporting.contract import ReportSection
    from visiongraft.task import Task


@hookimpl
def register_tasks() -> list[type[Task]]:
    """Return the task; PyTorch is imported only here, since exported files do not need it."""
    from visiongraft.plugins.detection.task import Detection

    return [Detection]


@hookimpl
def register_backbones() -> list[BackboneSource]:
    """Return the layers of published detectors before their heads."""
    from visiongraft.plugins.detection.models.bodies import DetectorBodySource

    return [DetectorBodySource()]


@hookimpl
def register_report_sections() -> list[type[ReportSection]]:
    """Return what the report of a run adds for the task."""
    from visiongraft.plugins.detection.report import Confusions, PrecisionRecall

    return [PrecisionRecall, Confusions]
