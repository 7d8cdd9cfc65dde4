"""One training run, as the engine and callbacks see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from visiongraft.config import FitConfig
from visiongraft.data.samples import Samples
from visiongraft.network import Network
from visiongraft.schedules import Schedule
from visiongraft.training.batches.own_augmentation import Augment
from visiongraft.training.measuring.own_metrics import OwnMetrics
from visiongraft.training.optimizers import RunOptimizer
from visiongraft.training.resuming.checkpoint import RunState
from visiongraft.training.selection.criteria import Selection


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
        evaluation: Further samples to evaluate after each epoch, by name.
        streams: Samples of further data for the training steps, by name.
        digests: Digest of the content of each training, validation and evaluation image, by part; a part
            whose images may change when they are loaded again has none.
        folder: The run folder, or ``None`` to keep nothing on disk.
        scratch: Where temporary files may go.
        state: Position and results so far.
        warnings: One line each on what a user should know as the run begins.
        notes: One line each on what was measured for the run, to be shown as it begins.
        kept_from_start: What was kept of the head of the model that the run continues with, as JSON values.
        group_names: Name of the group of each training and validation image, by part; empty without groups.
        metrics: The user's own metrics, beside those of the task.
        augment: The user's own augmentation, in place of the task's.
    """

    config: FitConfig
    network: Network
    schedule: Schedule
    optimizers: tuple[RunOptimizer, ...]
    training: Samples
    validation: Samples
    folder: Path | None
    scratch: Path
    evaluation: Mapping[str, Samples] = field(default_factory=dict)
    streams: Mapping[str, Samples] = field(default_factory=dict)
    digests: Mapping[str, Sequence[str]] = field(default_factory=dict)
    state: RunState = field(default_factory=RunState)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kept_from_start: Mapping[str, Any] = field(default_factory=dict)
    group_names: dict[str, Sequence[str]] = field(default_factory=dict)
    metrics: OwnMetrics = field(default_factory=OwnMetrics)
    augment: Augment | None = None

    def on(self, **samples: Any) -> Run:
        """Return the run on other samples of its parts, such as few of them to measure.

        Args:
            samples: ``training``, ``validation`` or ``evaluation``.

        Returns:
            A run without digests and groups, which belong to the images of the whole run; it shares no features.
        """
        return replace(self, digests={}, group_names={}, **samples)

    @property
    def selection(self) -> Selection:
        """Which epoch to keep."""
        return self.config.selection

    @property
    def step_streams(self) -> dict[str, Samples]:
        """The streams whose batches training steps receive."""
        transfer = self.network.transfer
        losses = () if transfer is None else transfer.named_losses.values()
        used = {*self.network.task.streams, *(name for loss in losses for name in loss.streams)}
        return {name: samples for name, samples in self.streams.items() if name in used}

    @property
    def target_streams(self) -> list[str]:
        """The streams that are measured without labels: those adapted to, and those that ``select`` names."""
        transfer = self.network.transfer
        losses = () if transfer is None else transfer.named_losses.values()
        named = {*self.selection.datasets, *(name for loss in losses for name in loss.adapts_to)}
        return [name for name in self.streams if name in named]

    @property
    def history(self) -> list[dict[str, Any]]:
        """One record per finished epoch."""
        return self.state.history
