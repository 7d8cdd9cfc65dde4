"""Runs of the real engine: recording and killing them, and their results."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isclose
from pathlib import Path

from torch import Tensor

from visiongraft.certificate import Certificate
from visiongraft.hookspecs import hookimpl
from visiongraft.lookup.exported import ExportedModel
from visiongraft.model import TransferModel
from visiongraft.testing.report import expect
from visiongraft.training.resuming.checkpoint import Checkpoint
from visiongraft.training.run import Run


@dataclass
class RunRecorder:
    """Records a run; with ``stop_at``, kills it at that step as a crash would."""

    stop_at: int | None = None
    run: Run | None = None
    losses: list[dict[str, float]] = field(default_factory=list)

    @hookimpl
    def run_started(self, run: Run) -> None:
        """Keep the run."""
        self.run = run

    @hookimpl
    def step_ended(self, losses: dict[str, float]) -> None:
        """Keep the losses, and kill the run at its last step."""
        self.losses.append(losses)
        if len(self.losses) == self.stop_at:
            raise Killed


class Killed(BaseException):
    """Ends a run like a crash: nothing catches it."""


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        model: The model.
        run: The run.
        losses: Loss parts of each step.
    """

    model: TransferModel
    run: Run
    losses: list[dict[str, float]]

    @property
    def folder(self) -> Path:
        """Its folder, of a run that has one."""
        assert self.run.folder is not None
        return self.run.folder

    def last_tensors(self) -> dict[str, dict[str, Tensor]]:
        """Read the tensors of its last checkpoint, by group and name."""
        return Checkpoint.read(self.folder / "checkpoints" / "last.safetensors").tensors


@dataclass(frozen=True)
class Exported:
    """An exported file.

    Attributes:
        path: The file.
        certificate: The result of its exporter's proof.
        opened: The file, opened without PyTorch.
    """

    path: Path
    certificate: Certificate
    opened: ExportedModel


def expect_near_losses(
    one: float, other: float, tolerance: float, tried: str, expected: str
) -> None:
    """Raise a fault unless the losses of two runs differ by rounding only."""
    near = isclose(one, other, rel_tol=tolerance, abs_tol=1e-4)
    expect(near, tried, f"losses {one:.6g} and {other:.6g}", expected)


@contextmanager
def without_log() -> Iterator[None]:
    """Keep the log of runs off the terminal."""
    log, sink = logging.getLogger("visiongraft"), logging.NullHandler()
    log.addHandler(sink)
    try:
        yield
    finally:
        log.removeHandler(sink)
