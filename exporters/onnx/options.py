"""The options of the ONNX exporter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from visiongraft.errors import OptionError, near_matches
from visiongraft.exporters.options import batches_up_to
from visiongraft.exporters.verification.trial_images import BATCHES
from visiongraft.options import is_number
from visiongraft.preprocess import MULTIPLE, PreprocessConfig

INPUTS = ("uint8", "float")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True)
class ExportOptions:
    """The exporter's options.

    Attributes:
        size: Fixed height and width of the images in pixels; ``None`` for any size.
        input: ``"uint8"`` takes raw images; ``"float"`` what ``Preprocess`` returns, for people
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
    max_batch: int = BATCHES[-1]
    triton: str | Path | None = None

    def __post_init__(self) -> None:
        for name, known in (("input", INPUTS), ("precision", PRECISIONS)):
            value = getattr(self, name)
            if value not in known:
                raise OptionError(f"{name}={value!r} is unknown{near_matches(str(value), known)}")
        if not is_number(self.budget) or self.budget < 0:
            raise OptionError(f"budget={self.budget!r} is not a number of at least 0")
        batches_up_to(self.max_batch)  # refuses anything but a batch size
        if self.triton is not None and not (self.triton and isinstance(self.triton, (str, Path))):
            raise OptionError(f"triton={self.triton!r} is not a folder; write it as ./NAME")

    @property
    def batches(self) -> tuple[int, ...]:
        """Sizes of the batches to try, above one image."""
        return batches_up_to(self.max_batch)

    def for_network(self, config: PreprocessConfig) -> ExportOptions:
        """Fix the input's size where the bare network of images at their own size needs it.

        Args:
            config: The network's preprocessing.

        Returns:
            The options to export with.

        Raises:
            OptionError: ``size`` is not possible with ``input="float"``.
        """
        if self.input == "uint8":
            return self
        if config.resize != "pad":
            if self.size is not None:
                raise OptionError(
                    "size= is for images; with input='float' the input has the network's own "
                    f"size, {config.size[0]}x{config.size[1]}"
                )
            return self
        size = self.size or config.size
        if any(side % MULTIPLE for side in size):
            raise OptionError(f"size={size} with input='float' takes multiples of {MULTIPLE}")
        return ExportOptions(**{**vars(self), "size": size})
