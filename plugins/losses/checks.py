"""Checks and small sums that several losses share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visiongraft.errors import OptionError
from visiongraft.options import is_integer, is_number


def check_strength(loss: str, **options: object) -> None:
    """Check that options are numbers of at least 0.

    Args:
        loss: Name of the loss, for the message.
        options: Values by name.

    Raises:
        OptionError: One is not.
    """
    for option, value in options.items():
        if not (is_number(value) and value >= 0):
            raise OptionError(f"{option}={value!r} of {loss} is not a number of at least 0")


def check_positive(loss: str, **options: object) -> None:
    """Check that options are numbers above 0.

    Args:
        loss: Name of the loss, for the message.
        options: Values by name.

    Raises:
        OptionError: One is not.
    """
    for option, value in options.items():
        if not (is_number(value) and value > 0):
            raise OptionError(f"{option}={value!r} of {loss} is not a positive number")


def check_count(loss: str, **options: object) -> None:
    """Check that options are integers of at least 1.

    Args:
        loss: Name of the loss, for the message.
        options: Values by name.

    Raises:
        OptionError: One is not.
    """
    for option, value in options.items():
        if not is_integer(value, 1):
            raise OptionError(f"{option}={value!r} of {loss} is not an integer of at least 1")


def squared_norm(tensors: list[Tensor], like: nn.Module) -> Tensor:
    """Sum the squares of all values.

    Args:
        tensors: Any tensors; may be empty.
        like: A module on their device, of their type.

    Returns:
        A scalar.
    """
    if not tensors:
        return next(like.parameters()).new_zeros(())
    return torch.stack([t.square().sum() for t in tensors]).sum()
