"""Parsing of the options of all exporters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from visiongraft.errors import OptionError, near_matches
from visiongraft.exporters.verification.trial_images import BATCHES
from visiongraft.preprocess import as_size

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")


def parse_options(kind: type[Options], exporter: str, options: Mapping[str, Any]) -> Options:
    """Parse a user's options.

    Args:
        kind: A dataclass of options, one of them ``size``.
        exporter: Name of the exporter, for messages.
        options: Values by name.

    Returns:
        The options.

    Raises:
        OptionError: One is unknown, or its value is refused.
    """
    known = [field.name for field in fields(kind)]
    for name in options:
        if name not in known:
            hint = near_matches(name, known)
            raise OptionError(f"the {exporter} exporter has no option {name!r}{hint}")
    return kind(**{**options, "size": as_size(options.get("size"))})


def batches_up_to(max_batch: int) -> tuple[int, ...]:
    """Return the batch sizes to try, above one image.

    Args:
        max_batch: The largest one.

    Returns:
        The sizes, in order; the smallest usual one is always among them.

    Raises:
        OptionError: It is not an integer of at least 1.

    Examples:
        >>> batches_up_to(8)
        (3, 8)
    """
    if type(max_batch) is not int or max_batch < 1:
        raise OptionError(f"max_batch={max_batch!r} is not an integer of at least 1")
    return tuple(sorted({BATCHES[0], max_batch} - {1}))
