"""What the core provides for reports: its sections, and the callback that writes them after a run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from visiongraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from visiongraft.reporting.contract import ReportSection
    from visiongraft.training.run import Run

log = logging.getLogger("visiongraft")


class Report:
    """Writes ``report.html`` into the run folder, without the sections that look at every image."""

    name = "report"

    @hookimpl
    def run_finished(self, run: Run) -> None:
        """Write the page; a run whose report fails is as good as any other."""
        self._write(run)

    @hookimpl
    def strength_chosen(self, run: Run) -> None:
        """Write the page of the training that is kept into the folder of the whole."""
        self._write(run)

    def _write(self, run: Run) -> None:
        if run.folder is None:
            return
        from visiongraft.reporting.writing import write_finished

        try:
            write_finished(run)
        except Exception as error:  # sections of plugins may raise any error
            log.warning("report.html was not written: %s", error)


@hookimpl
def register_callbacks() -> list[type[Any]]:
    """Provide the callback."""
    return [Report]


@hookimpl
def register_report_sections() -> list[type[ReportSection]]:
    """Provide the sections of every report."""
    from visiongraft.reporting.sections.data import BatchImages, Data
    from visiongraft.reporting.sections.groups import Groups
    from visiongraft.reporting.sections.images import EmbeddingMap, NearDuplicates
    from visiongraft.reporting.sections.mistakes import Mistakes
    from visiongraft.reporting.sections.proofs import (
        Certificates,
        Environment,
        Receipts,
        Reproduce,
    )
    from visiongraft.reporting.sections.selection import Chosen
    from visiongraft.reporting.sections.summary import Classes, Headline
    from visiongraft.reporting.sections.training import Curves

    return [
        Headline, Curves, Chosen, Data, BatchImages, Classes, Groups, Mistakes, EmbeddingMap, NearDuplicates, Receipts,
        Certificates, Environment, Reproduce,
    ]  # fmt: skip
