"""Checks of sections of reports: they consist of parts, also without images, and change nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

from visiongraft.pages.parts import Part
from visiongraft.reporting.contract import ReportedRun, ReportSection
from visiongraft.reporting.passes import watch
from visiongraft.testing.report import Checks, expect, trying
from visiongraft.testing.specimen import Specimen
from visiongraft.testing.tasks.trial import TaskTrial
from visiongraft.training.freezing import digest


class SectionTrial:
    """A section under trial, in the report of a short run of a small task.

    Args:
        kind: The section.
    """

    def __init__(self, kind: type[ReportSection]) -> None:
        self.kind = kind
        self._task = TaskTrial(Specimen())

    def run(self) -> ReportedRun:
        """Return the run, with all that a section may look at."""
        trained = self._task.short("report")
        run, model = trained.run, trained.model
        return ReportedRun(
            trained.folder, run.config, model.network, model.facts, run.history, run.state.receipts,
            run.training, run.validation, complete=True,
        )  # fmt: skip

    def parts(self, run: ReportedRun) -> list[Any]:
        """Make the section."""
        with trying(
            "to make the section", "parts of a page", see="reporting.contract.ReportSection"
        ):
            section = self.kind(run)
            if section.watches and run.validation is not None:
                for results in watch(run.network, run.validation):
                    section.update(results)
            return list(section.parts())


def _trial(subject: Any) -> SectionTrial:
    assert isinstance(subject, SectionTrial)
    return subject


check = Checks(_trial)


@check("reporting.contract.ReportSection.parts")
def a_section_consists_of_parts(trial: SectionTrial) -> None:
    """All that the section returns are parts that a page can show."""
    others = [
        type(p).__name__ for p in trial.parts(trial.run()) if not isinstance(p, get_args(Part))
    ]
    expect(not others, "to make the section", ", ".join(others), "parts of visiongraft.pages.parts")


@check("reporting.contract.ReportedRun")
def a_section_does_without_images(trial: SectionTrial) -> None:
    """The section can be made when the images are no longer there, unless it watches them."""
    if not trial.kind.watches:
        trial.parts(replace(trial.run(), training=None, validation=None))


@check("reporting.contract.ReportSection")
def a_section_changes_no_weight(trial: SectionTrial) -> None:
    """Making the section leaves all tensors of the network as they were."""
    run = trial.run()
    before = {name: digest(tensor) for name, tensor in run.network.state_dict().items()}
    trial.parts(run)
    after = {name: digest(tensor) for name, tensor in run.network.state_dict().items()}
    changed = [name for name in before if before[name] != after[name]]
    expect(not changed, "to make the section", ", ".join(changed), "unchanged tensors")


SECTION_CHECKS = tuple(check)
