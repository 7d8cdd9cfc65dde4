"""What users may choose about a .pt2 file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from visiongraft.errors import OptionError, near_matches
from visiongraft.exporters.verify import BATCHES
from visiongraft.preprocess import as_size


@dataclass(frozen=True)
class Pt2Options:
    """The exporter's options.

    Attributes:
        size: Fixed height and width of the pictures in pixels; ``None`` for any size.
        max_batch: The largest batch to prove.
    """

    size: tuple[int, int] | None = None
    max_batch: int = BATCHES[-1]

    def __post_init__(self) -> None:
        if type(self.max_batch) is not int or self.max_batch < 1:
            raise OptionError(f"max_batch={self.max_batch!r} is no whole number of 1 or more")

    @property
    def batches(self) -> tuple[int, ...]:
        """Sizes of the batches to try, above one picture."""
        return tuple(sorted({BATCHES[0], self.max_batch} - {1}))


def parse_options(options: Mapping[str, Any]) -> Pt2Options:
    """Read what a user gave.

    Args:
        options: Values by name.

    Returns:
        The options.

    Raises:
        OptionError: One is unknown, or its value is refused.
    """
    known = [field.name for field in fields(Pt2Options)]
    for name in options:
        if name not in known:
            raise OptionError(f"the pt2 exporter has no option {name!r}{near_matches(name, known)}")
    return Pt2Options(**{**options, "size": as_size(options.get("size"))})
