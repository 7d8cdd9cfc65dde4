"""The state of a run, and the checkpoint that restores it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from visiongraft.errors import ArtifactError, CheckpointError
from visiongraft.saving.tensor_files import has_checksum, read_tensors, write_tensors
from visiongraft.system.versions import VISIONGRAFT, describe_other_format

FORMAT = 3
REMEDY = "restore it from a copy, or start a new run"


@dataclass
class RunState:
    """Position and results of a run; JSON values only.

    Attributes:
        phase: Position in the schedule.
        phase_epoch: Finished epochs of this phase.
        step: Finished optimizer steps of the present epoch.
        epoch: Finished epochs of the run.
        streams: Samples of each stream that all processes have taken.
        steps: Finished optimizer steps of the run.
        sums: Of each loss part the sum over the present epoch and its weight, such as the number of
            samples, as far as this process has seen them.
        gradients: Of each part of the network the sum of its gradients' norms in the present epoch,
            and their number.
        history: One record per finished epoch.
        receipts: One receipt per finished phase.
        before: Metrics of validation and evaluation sets before training, if they were measured.
        before_groups: The same without each group of images, where a confidence needs them.
        best: Record number and results of the selected epoch so far, and the file that holds it.
        stale: Epochs of this phase since the last improvement.
        snapshot: Digests of the tensors that this phase must not change; empty before it starts.
        replayed: Whether this phase is replayed; ``None`` before that is decided.
        privacy: Of a differentially private run the secret seed of its noise, the noise multiplier and
            the sample rate.
        head_start: The values of ``HeadStart``; empty if the head did not start from images.
        head_refit: The values of ``HeadRefit``; empty if the present phase did not fit the head anew.
        groups: Of a run that weighs groups of images their weights, the sums of their losses in the present epoch,
            and a digest of who is in which group.
    """

    phase: int = 0
    phase_epoch: int = 0
    step: int = 0
    epoch: int = 0
    streams: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    sums: dict[str, list[float]] = field(default_factory=dict)
    gradients: dict[str, list[float]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    receipts: list[dict[str, Any]] = field(default_factory=list)
    before: dict[str, dict[str, float]] = field(default_factory=dict)
    before_groups: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    best: dict[str, Any] | None = None
    stale: int = 0
    snapshot: dict[str, str] = field(default_factory=dict)
    replayed: bool | None = None
    privacy: dict[str, Any] = field(default_factory=dict)
    head_start: dict[str, Any] = field(default_factory=dict)
    head_refit: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, Any] = field(default_factory=dict)


@dataclass
class Checkpoint:
    """All that a run needs to resume as if it had never stopped.

    Attributes:
        state: The state of the run.
        tensors: By group (``network``, ``optimizer``, ``ema``, ``random0``) and name; a group
            without tensors may be missing.
        values: What else belongs to the groups, as JSON values.
    """

    state: RunState
    tensors: dict[str, dict[str, Tensor]]
    values: dict[str, Any]

    def write(self, path: Path) -> None:
        """Write one file, atomically."""
        flat = {f"{g}:{n}": t for g, tensors in self.tensors.items() for n, t in tensors.items()}
        metadata = {
            "format": FORMAT,
            "visiongraft": VISIONGRAFT,
            "state": asdict(self.state),
            "values": self.values,
        }
        write_tensors(path, flat, metadata)

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Read what ``write`` wrote.

        Args:
            path: The file.

        Returns:
            The checkpoint.

        Raises:
            CheckpointError: The file is missing, damaged or of another version.
        """
        flat, metadata = _read(path)
        found = metadata.get("format")
        if not isinstance(found, int) or metadata.keys() == {"format"}:  # as saved models have
            raise CheckpointError(f"cannot resume: {path} is not a checkpoint")
        if found != FORMAT:
            made_by = metadata.get("visiongraft")
            message = describe_other_format(path, found, FORMAT, made_by)
            raise CheckpointError(f"cannot resume: {message}")
        _require_checksum(path)
        tensors: dict[str, dict[str, Tensor]] = {}
        for key, tensor in flat.items():
            group, _, name = key.partition(":")
            tensors.setdefault(group, {})[name] = tensor
        try:
            return cls(RunState(**metadata["state"]), tensors, metadata["values"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"cannot resume: {path} is not a checkpoint ({error})") from error

    def check_processes(self, processes: int) -> tuple[str, ...]:
        """Check that an epoch that was begun is finished by as many processes.

        Args:
            processes: Number of processes that resume the run.

        Returns:
            A warning if it is another number, between two epochs.

        Raises:
            CheckpointError: It is another number, in the middle of an epoch.
        """
        before = len(self.values["random"])
        if processes == before:
            return ()
        if self.state.step:
            raise CheckpointError(
                f"cannot resume with {_processes(processes)}: the run stopped in the middle of an "
                f"epoch whose batches {_processes(before)} shared; resume it with {before}, or start "
                "a new run"
            )
        line = f"the run goes on with {_processes(processes)} instead of {before}: steps are taken "
        return (line + "over other batches, so that results differ from those of one run",)


def read_best(path: Path) -> dict[str, Tensor]:
    """Read the best weights that a checkpoint refers to.

    Args:
        path: The file.

    Returns:
        Tensors by names of the network's state.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    tensors, _ = _read(path)
    _require_checksum(path)
    return tensors


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        return read_tensors(path)
    except ArtifactError as error:
        raise CheckpointError(f"cannot resume: {error}; {REMEDY}") from error


def _require_checksum(path: Path) -> None:
    if not has_checksum(path):
        raise CheckpointError(f"cannot resume: {path} is damaged: it has no checksum; {REMEDY}")


def _processes(count: int) -> str:
    return f"{count} {'process' if count == 1 else 'processes'}"
