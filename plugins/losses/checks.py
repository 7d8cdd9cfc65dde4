"""Checks that several losses share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from visiongraft.errors import OptionError
from visiongraft.options import is_integer, is_number
from visiongraft.training.transfer_losses import TransferLoss, TransferStep

log = logging.getLogger("visiongraft")


def check_strength(loss: str, **options: object) -> None:
    """Raise ``OptionError`` unless options of a loss are numbers of at least 0."""
    _check(loss, options, lambda v: is_number(v) and v >= 0, "a number of at least 0")


def check_positive(loss: str, **options: object) -> None:
    """Raise ``OptionError`` unless options of a loss are numbers above 0."""
    _check(loss, options, lambda v: is_number(v) and v > 0, "a positive number")


def check_count(loss: str, **options: object) -> None:
    """Raise ``OptionError`` unless options of a loss are integers of at least 1."""
    _check(loss, options, lambda v: is_integer(v, 1), "an integer of at least 1")


def warn_of_small_batches(loss: TransferLoss, step: TransferStep, least: int) -> None:
    """Warn in the first step of a run that a loss has no effect in batches of this size.

    Args:
        loss: The loss.
        step: A step whose batch is too small.
        least: The smallest batch in which it has one.
    """
    if step.batch.step.number == 0:
        log.warning(
            "transfer loss %r has no effect in batches of %d; it needs %d images or more",
            loss.name,
            len(step.batch.images),
            least,
        )


def _check(
    loss: str, options: Mapping[str, object], holds: Callable[[object], bool], words: str
) -> None:
    for option, value in options.items():
        if not holds(value):
            raise OptionError(f"{option}={value!r} of {loss} is not {words}")
