"""Trial steps before a run, on a copy of its network: the run itself is proved to be unchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace

from accelerate import Accelerator

from visiongraft.errors import OptionError, ReceiptError
from visiongraft.network import Network
from visiongraft.seeds import random_state, restore_random_state
from visiongraft.training.engine import Engine
from visiongraft.training.freezing import digest
from visiongraft.training.phases import ReadyPhase
from visiongraft.training.resuming.checkpoint import RunState
from visiongraft.training.run import Run


@contextmanager
def rehearsal(run: Run, accelerator: Accelerator, what: str) -> Iterator[Run]:
    """Lend a copy of a run to steps that are only a trial.

    Args:
        run: The run, before its first step.
        accelerator: Device, precision and processes.
        what: The setting that is measured, for messages.

    Yields:
        A run like it without a folder, with a network of its own.

    Raises:
        OptionError: The run has several processes, which would not measure alike.
        ReceiptError: The run or the random states are not what they were.
    """
    if accelerator.num_processes > 1:
        raise OptionError(
            f"{what} is measured in one process, but the run has {accelerator.num_processes}; pass a "
            "number instead"
        )
    before, states = _contents(run.network), random_state()
    scaler = accelerator.scaler
    scale = scaler.state_dict() if scaler is not None else {}
    try:
        network = deepcopy(run.network)
        yield replace(run, network=network, state=RunState(), folder=None, warnings=())
    finally:
        restore_random_state(*states)
        if scaler is not None and scale:
            scaler.load_state_dict(scale)
    after = _contents(run.network)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if changed:
        raise ReceiptError(f"measuring {what} changed {changed[0]}, which the run begins with")


def endless_losses(
    engine: Engine, ready: ReadyPhase, set_rates: Callable[[int, int], None]
) -> Iterator[float]:
    """Make steps in one epoch after the other, without evaluation.

    Args:
        engine: The engine.
        ready: The phase.
        set_rates: As for ``Engine.train_steps``.

    Yields:
        The loss of each step.
    """
    state = engine.run.state
    while True:
        for _, parts in engine.train_steps(ready, set_rates):
            yield parts["loss"]
        state.epoch, state.step = state.epoch + 1, 0


def _contents(network: Network) -> dict[str, str]:
    """Return digests of all that a run begins with: tensors, modes and random states."""
    tensors, values = random_state()
    named = [*network.named_parameters(), *network.named_buffers()]
    trained = ",".join(n for n, p in network.named_parameters() if p.requires_grad)
    modes = ",".join(n for n, module in network.named_modules() if module.training)
    words = {"what trains": trained, "modes": modes, "random states": str(values)}
    return {
        **{f"tensor {name!r}": digest(tensor) for name, tensor in named},
        **{f"the random state of {name}": digest(tensor) for name, tensor in tensors.items()},
        **{name: hashlib.sha256(text.encode()).hexdigest() for name, text in words.items()},
    }
