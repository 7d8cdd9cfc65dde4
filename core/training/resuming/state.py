"""What a checkpoint takes from a running engine, and how it is put back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from visiongraft.errors import CheckpointError
from visiongraft.seeds import restore_random_state
from visiongraft.training.optimizers import optimizer_tensors, restore_optimizers
from visiongraft.training.resuming.checkpoint import Checkpoint
from visiongraft.training.run import Run
from visiongraft.training.weights.averages import Average

RankState = tuple[dict[str, Tensor], dict[str, Any]]


def take_checkpoint(
    run: Run,
    optimizers: Sequence[torch.optim.Optimizer],
    average: Average | None,
    accelerator: Accelerator,
    ranks: list[RankState],
) -> Checkpoint:
    """Take a checkpoint.

    Args:
        run: The run.
        optimizers: The optimizers of the phase.
        average: The averaged weights, if any are kept.
        accelerator: Holds the gradient scaler.
        ranks: Of each process the tensors of its random state, and as JSON values ``random``, the rest
            of it, and ``sums``, see ``RunState.sums``.

    Returns:
        The checkpoint.
    """
    tensors, values = optimizer_tensors(optimizers)
    groups = {
        "network": dict(run.network.state_dict()),
        "optimizer": tensors,
        "ema": average.tensors if average else {},
        **{f"random{rank}": tensors for rank, (tensors, _) in enumerate(ranks)},
    }
    scaler = accelerator.scaler
    others = {
        "optimizer": values,
        "random": [values["random"] for _, values in ranks],
        "sums": [values["sums"] for _, values in ranks],
        "ema_updates": average.updates if average else 0,
        "scaler": scaler.state_dict() if scaler is not None else None,
    }
    return Checkpoint(run.state, groups, others)


def restore_run(run: Run, checkpoint: Checkpoint) -> None:
    """Restore the position of a run and its network.

    Args:
        run: The run; changed in place.
        checkpoint: The checkpoint.

    Raises:
        CheckpointError: It was taken with another network.
    """
    run.state = checkpoint.state
    try:
        run.network.load_state_dict(checkpoint.tensors.get("network", {}))
    except RuntimeError as error:
        raise CheckpointError(
            "cannot resume: the checkpoint does not fit the network; with other data or another "
            "version of a plugin start another run"
        ) from error


def restore_average(average: Average, checkpoint: Checkpoint) -> None:
    """Restore the averaged weights.

    Args:
        average: The averages of the restored network; changed in place.
        checkpoint: The checkpoint.
    """
    for name, tensor in checkpoint.tensors.get("ema", {}).items():
        average.tensors[name].copy_(tensor)
    average.updates = checkpoint.values["ema_updates"]


def restore_steps(
    optimizers: Sequence[torch.optim.Optimizer], accelerator: Accelerator, checkpoint: Checkpoint
) -> None:
    """Restore what steps read and change, as the last thing before the first step.

    These are optimizers, gradient scaler, and of this process the random state and sums of losses.

    Args:
        optimizers: The optimizers of the phase; changed in place.
        accelerator: Holds the gradient scaler; changed in place.
        checkpoint: The checkpoint; its state becomes that of this process.
    """
    tensors, values = checkpoint.tensors, checkpoint.values
    restore_optimizers(optimizers, tensors.get("optimizer", {}), values["optimizer"])
    if accelerator.scaler is not None and values["scaler"]:
        accelerator.scaler.load_state_dict(values["scaler"])
    rank, states = accelerator.process_index, values["random"]
    if rank < len(states):
        restore_random_state(tensors.get(f"random{rank}", {}), states[rank])
        checkpoint.state.sums = values["sums"][rank]
