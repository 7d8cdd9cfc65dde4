"""The options of all exporters, and their parsing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from visiongraft.errors import OptionError
from visiongraft.exporters.verification.trial_images import BATCHES
from visiongraft.inputs import Inputs
from visiongraft.options import is_integer, refuse_unknown
from visiongraft.preprocess import as_size


@dataclass(frozen=True)
class ExporterOptions:
    """The options that every exporter has.

    Attributes:
        size: Fixed height and width of the images in pixels; ``None`` for any size.
        max_batch: The largest batch to prove.
        extra_outputs: Names of outputs besides the task's results, such as ``"embedding"`` and
            ``"feature_map"``; those of a task are in ``Task.extra_outputs``.

    Examples:
        >>> ExporterOptions(max_batch=8).batches
        (3, 8)
    """

    size: tuple[int, int] | None = None
    max_batch: int = BATCHES[-1]
    extra_outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not is_integer(self.max_batch, 1):
            raise OptionError(f"max_batch={self.max_batch!r} is not an integer of at least 1")
        if not all(isinstance(name, str) for name in self.extra_outputs):
            raise OptionError(f"extra_outputs={self.extra_outputs!r} are not names")

    @property
    def batches(self) -> tuple[int, ...]:
        """Sizes of the batches to try, above one image; the smallest usual one is among them."""
        return tuple(sorted({BATCHES[0], self.max_batch} - {1}))


def refuse_size(size: tuple[int, int] | None, inputs: Inputs) -> None:
    """Refuse a fixed size of samples that have none.

    Raises:
        OptionError: They have none, and it is set.
    """
    if size is not None and not inputs.has_size:
        raise OptionError(f"{inputs.name} have no height and width; leave out size")


Options = TypeVar("Options", bound=ExporterOptions)


def parse_options(kind: type[Options], exporter: str, options: Mapping[str, Any]) -> Options:
    """Parse a user's options.

    Args:
        kind: The class of the exporter's options.
        exporter: Name of the exporter, for messages.
        options: Values by name.

    Returns:
        The options.

    Raises:
        OptionError: One is unknown, or its value is refused.
    """
    refuse_unknown(f"the {exporter} exporter", options, [field.name for field in fields(kind)])
    extras = options.get("extra_outputs") or ()
    if isinstance(extras, str):  # as on the command line
        extras = [name.strip() for name in extras.split(",")]
    if not isinstance(extras, list | tuple):
        raise OptionError(f"extra_outputs={extras!r} is not a list of names")
    given = {"size": as_size(options.get("size")), "extra_outputs": tuple(extras)}
    return kind(**{**options, **given})
