"""What users may choose about an exported file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from visiongraft.errors import OptionError, near_matches
from visiongraft.preprocess import MULTIPLE, PreprocessConfig, as_size

INPUTS = ("uint8", "float")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
MIXED_BATCH = 3  # pictures of the batches in which every file is tried


@dataclass(frozen=True)
class ExportOptions:
    """The exporter's options.

    Attributes:
        size: Fixed height and width of the pictures in pixels; ``None`` for any size.
        input: ``"uint8"`` takes raw pictures; ``"float"`` what ``Preprocess`` gives, for people
            with a preprocessing of their own.
        precision: What backbone and head compute in. Preprocessing and decoding are always float32.
        budget: By how much a lower precision may worsen the task's headline, in its own unit.
        max_batch: The largest batch to prove.
        triton: A model repository of Triton Inference Server that the file is put into as well.
    """

    size: tuple[int, int] | None = None
    input: str = "uint8"
    precision: str = "fp32"
    budget: float = 0.01
    max_batch: int = 8
    triton: str | Path | None = None

    def __post_init__(self) -> None:
        for name, known in (("input", INPUTS), ("precision", PRECISIONS)):
            value = getattr(self, name)
            if value not in known:
                raise OptionError(f"{name}={value!r} is unknown{near_matches(str(value), known)}")
        if not _is_number(self.budget) or not 0 <= self.budget < float("inf"):
            raise OptionError(f"budget={self.budget!r} is no number of 0 or more")
        if type(self.max_batch) is not int or self.max_batch < 1:
            raise OptionError(f"max_batch={self.max_batch!r} is no whole number of 1 or more")
        if self.triton is not None and not (self.triton and isinstance(self.triton, (str, Path))):
            raise OptionError(f"triton={self.triton!r} is no folder; write it as ./NAME")

    @property
    def batches(self) -> tuple[int, ...]:
        """Sizes of the batches to try, above one picture."""
        return tuple(sorted({MIXED_BATCH, self.max_batch} - {1}))

    def for_network(self, config: PreprocessConfig) -> ExportOptions:
        """Fix the input's size where the bare network of pictures at their own size asks for it.

        Args:
            config: The network's preprocessing.

        Returns:
            The options to export with.

        Raises:
            OptionError: ``size`` cannot be had with ``input="float"``.
        """
        if self.input == "uint8":
            return self
        if config.resize != "pad":
            if self.size is not None:
                raise OptionError(
                    "size= is for pictures; with input='float' the input has the network's own "
                    f"size, {config.size[0]}x{config.size[1]}"
                )
            return self
        size = self.size or config.size
        if any(side % MULTIPLE for side in size):
            raise OptionError(f"size={size} with input='float' takes multiples of {MULTIPLE}")
        return ExportOptions(**{**vars(self), "size": size})


def parse_options(options: Mapping[str, Any]) -> ExportOptions:
    """Read what a user gave.

    Args:
        options: Values by name.

    Returns:
        The options.

    Raises:
        OptionError: One is unknown, or its value is refused.
    """
    known = [field.name for field in fields(ExportOptions)]
    for name in options:
        if name not in known:
            raise OptionError(
                f"the onnx exporter has no option {name!r}{near_matches(name, known)}"
            )
    return ExportOptions(**{**options, "size": as_size(options.get("size"))})


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
