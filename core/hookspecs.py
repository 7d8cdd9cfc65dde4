"""The hooks a plugin may implement, all in one place.

A plugin is a module (or any object) named by an entry point in the group ``visiongraft``. It marks
functions with ``visiongraft.hookimpl``; a function may take any subset of its hook's arguments.

Registration hooks are pure: they take nothing and return what the plugin provides. Run hooks are
implemented by listeners, which a user chooses per run; installing a plugin changes nobody's run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from visiongraft.backbone import BackboneSource
    from visiongraft.engine import Run
    from visiongraft.exporter import Exporter
    from visiongraft.freezing import Receipt
    from visiongraft.schedules import Phase, Schedule
    from visiongraft.task import Task

PROJECT = "visiongraft"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class RegistrationHooks:
    """What a plugin provides."""

    @hookspec
    def register_tasks(self) -> Iterable[type[Task]]:  # type: ignore[empty-body]
        """Provide tasks, each found by its ``name``."""

    @hookspec
    def register_backbones(self) -> Iterable[BackboneSource]:  # type: ignore[empty-body]
        """Provide families of backbones, each found by its ``prefix``."""

    @hookspec
    def register_schedules(self) -> Iterable[Schedule]:  # type: ignore[empty-body]
        """Provide freeze/unfreeze schedules, each found by its ``name``."""

    @hookspec
    def register_exporters(self) -> Iterable[type[Exporter]]:  # type: ignore[empty-body]
        """Provide exporters, each found by its ``name``."""

    @hookspec
    def register_listeners(self) -> Iterable[type[Any]]:  # type: ignore[empty-body]
        """Provide listeners for runs, each found by its ``name``; see ``RunHooks``."""


class RunHooks:
    """What a listener of one run may hear, in this order; only the main process tells it."""

    @hookspec
    def run_started(self, run: Run) -> None:
        """The run is about to start or to continue.

        Args:
            run: Config, network, history, folder and planned length of the run.
        """

    @hookspec
    def phase_started(self, run: Run, phase: Phase, index: int) -> None:
        """A phase begins; its stages are frozen and unfrozen already.

        Args:
            run: The run.
            phase: The phase.
            index: Its position in the schedule, from 0.
        """

    @hookspec
    def step_ended(self, run: Run, step: int, steps: int, losses: dict[str, float]) -> None:
        """The optimiser has made a step.

        Args:
            run: The run.
            step: Number of this step in its epoch, from 1.
            steps: Steps in this epoch.
            losses: Loss parts by name.
        """

    @hookspec
    def epoch_ended(self, run: Run, record: dict[str, Any]) -> None:
        """An epoch is evaluated.

        Args:
            run: The run.
            record: The line that ``metrics.jsonl`` gets.
        """

    @hookspec
    def phase_ended(self, run: Run, receipt: Receipt) -> None:
        """A phase is over and what it froze is proved unchanged.

        Args:
            run: The run.
            receipt: The proof.
        """

    @hookspec
    def run_finished(self, run: Run) -> None:
        """The run is over and its best model is saved."""

    @hookspec
    def run_failed(self, run: Run, error: BaseException) -> None:
        """The run ends with an error or an interruption, which is raised after this.

        Args:
            run: The run.
            error: What ended it.
        """
