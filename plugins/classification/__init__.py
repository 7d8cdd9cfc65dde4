"""Image classification: single-label or multi-label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visiongraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from visiongraft.reporting.contract import ReportSection
    from visiongraft.task import Task


@hookimpl
def register_tasks() -> list[type[Task]]:
    """Return the task. PyTorch is imported here, because the deployed runtime does not need it."""
    from visiongraft.plugins.classification.task import Classification

    return [Classification]


@hookimpl
def register_report_sections() -> list[type[ReportSection]]:
    """Return what the report of a run adds for the task."""
    from visiongraft.plugins.classification.report import Confidence

    return [Confidence]
