"""The weights of several epochs in a run folder, of which soups are made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from visiongraft.saving.tensor_files import read_tensors, write_tensors


def write_epoch(folder: Path, epoch: int, tensors: Mapping[str, Tensor]) -> None:
    """Write the weights of an epoch.

    Args:
        folder: The run folder.
        epoch: From 0.
        tensors: By names of the network's state.
    """
    write_tensors(_path(folder, epoch), tensors, {"epoch": epoch})


def remove_epoch(folder: Path, epoch: int) -> None:
    """Remove the weights of an epoch, if they were kept."""
    _path(folder, epoch).unlink(missing_ok=True)


def kept_epochs(folder: Path) -> list[int]:
    """List the epochs whose weights a run folder has, from 0, in ascending order."""
    found = (
        path.stem.removeprefix("epoch-") for path in folder.glob("checkpoints/epoch-*.safetensors")
    )
    return sorted(int(number) for number in found if number.isdecimal())


def read_epoch(folder: Path, epoch: int) -> dict[str, Tensor]:
    """Read the weights of an epoch.

    Args:
        folder: The run folder.
        epoch: From 0.

    Raises:
        ArtifactError: They are missing or damaged.
    """
    tensors, _ = read_tensors(_path(folder, epoch))
    return tensors


def _path(folder: Path, epoch: int) -> Path:
    return folder / "checkpoints" / f"epoch-{epoch}.safetensors"
