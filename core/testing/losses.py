"""Checks of transfer losses: runs with one train in bfloat16, are reproducible, and resume exactly."""

from __future__ import annotations

from typing import Any

from visiongraft.lookup.methods import find_transfer_loss
from visiongraft.registry.manager import plugins
from visiongraft.testing.report import Check, require
from visiongraft.testing.specimen import Shades, make_dataset
from visiongraft.testing.tasks.learning import half_precision_trains
from visiongraft.testing.tasks.reproducing import equal_runs_are_equal
from visiongraft.testing.tasks.resuming import a_killed_run_resumes_exactly
from visiongraft.testing.tasks.runs import RunRecorder, Trained
from visiongraft.testing.tasks.trial import TaskTrial
from visiongraft.training.transfer_losses import TransferLoss

STREAM = 10  # images of each stream, fewer than those of an epoch


class TransferLossTrial(TaskTrial):
    """A transfer loss under trial, beside the task that it names or one with class ids.

    Streams that the loss uses get gray images, and a source head is that of a model that was trained
    for one epoch. A loss that adapts buffers is tried on a network with batch norms that train.

    Args:
        name: Name of the transfer loss, with options if it needs any.
    """

    def __init__(self, name: str) -> None:
        kind = find_transfer_loss(name).kind
        task = Shades() if kind.checked_with is None else plugins().get("task", kind.checked_with)
        super().__init__(task, transfer_loss=name)
        self.adapts = kind.adapt is not TransferLoss.adapt
        if self.adapts:
            self.backbone = self.normalized
        self.settings["streams"] = {
            one: make_dataset(self.folder(one), STREAM, seed=1)
            for one in dict.fromkeys((*kind.streams, *kind.adapts_to))
        } or None
        if kind.needs_source_head:
            folder = self.folder("source") / "run"
            alone = {"transfer_loss": None, "streams": None}
            self.fit("to train a source model", epochs=1, out=folder, **alone)
            self.backbone = str(folder)
            self.settings["weights"] = "pretrained"

    def fit(self, tried: str, witness: RunRecorder | None = None, **settings: Any) -> Trained:
        """Train as any task; batch norms train if the loss adapts buffers."""
        if self.adapts:
            settings["schedule"] = "full(batch_norm='train')"
        return super().fit(tried, witness, **settings)


TRANSFER_LOSS_CHECKS: tuple[Check[Any], ...] = (
    half_precision_trains,
    equal_runs_are_equal,
    a_killed_run_resumes_exactly,
)


def check_transfer_loss(what: str) -> None:
    """Check everything that visiongraft requires of a transfer loss.

    Args:
        what: Name of an installed transfer loss, with or without options.

    Raises:
        CheckError: A check failed.
    """
    require(TransferLossTrial.of(what), TRANSFER_LOSS_CHECKS)
