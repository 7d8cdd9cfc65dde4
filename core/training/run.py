"""One training run, as the engine and callbacks see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visiongraft.config import FitConfig
from visiongraft.data.samples import Samples
from visiongraft.network import Network
from visiongraft.schedules import Schedule
from visiongraft.training.checkpoint import RunState
from visiongraft.training.optimizers import RunOptimizer


@dataclass
class Run:
    """One training run.

    Attributes:
        config: Its settings.
        network: What trains.
        schedule: Yields the phases.
        optimizers: What the task's optimizers are, usually a single one.
        training: Training samples.
        validation: Validation samples.
        folder: The run folder, or ``None`` to keep nothing on disk.
        scratch: Where temporary files may go.
        state: Position and results so far.
        warnings: One line each on what a user should know as the run begins.
    """

    config: FitConfig
    network: Network
    schedule: Schedule
    optimizers: tuple[RunOptimizer, ...]
    training: Samples
    validation: Samples
    folder: Path | None
    scratch: Path
    state: RunState = field(default_factory=RunState)
    warnings: tuple[str, ...] = ()

    @property
    def history(self) -> list[dict[str, Any]]:
        """One record per finished epoch."""
        return self.state.history
