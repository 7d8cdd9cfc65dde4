"""All randomness goes through here: seeding, saving and restoring random states."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch (all devices).

    Args:
        seed: Any non-negative integer.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed % 2**63)


def mix_seed(*key: int | str) -> int:
    """Make one seed of several numbers or words.

    Args:
        key: What the randomness belongs to, such as run seed, epoch and sample.

    Returns:
        A number in [0, 2**63).

    Examples:
        >>> mix_seed(0, 1) == mix_seed(0, 1), mix_seed(0, 1) == mix_seed(1, 0)
        (True, False)
    """
    text = ",".join(str(k) for k in key).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


@contextmanager
def seeded(*key: int | str) -> Iterator[None]:
    """Run a block under its own seed and leave the surrounding randomness as it was.

    Args:
        key: See ``mix_seed``.

    Examples:
        >>> with seeded(0, "sample", 7):
        ...     first = torch.rand(1)
        >>> with seeded(0, "sample", 7):
        ...     bool(torch.rand(1) == first)
        True
    """
    with preserved():
        seed = mix_seed(*key)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def preserved() -> Iterator[None]:
    """Run a block and put the random states (CPU) back as they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def random_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read all random states.

    Returns:
        Tensors by name, and JSON values, that ``restore_random_state`` takes.
    """
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, internal, gauss_next = random.getstate()
    tensors = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        for i, state in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"cuda{i}"] = state
    values = {
        "numpy": [kind, [int(k) for k in keys], int(position), int(has_gauss), float(gauss)],
        "python": [version, list(internal), gauss_next],
    }
    return tensors, values


def restore_random_state(tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Restore random states.

    Args:
        tensors: From ``random_state``.
        values: From ``random_state``.
    """
    torch.set_rng_state(tensors["torch"].cpu())
    cuda = [tensors[n].cpu() for n in sorted(tensors) if n.startswith("cuda")]
    if torch.cuda.is_available() and len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(cuda)
    kind, keys, position, has_gauss, gauss = values["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
    version, internal, gauss_next = values["python"]
    random.setstate((version, tuple(internal), gauss_next))
