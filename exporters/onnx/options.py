"""The options of the ONNX exporter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from visiongraft.errors import OptionError
from visiongraft.exporters.options import ExporterOptions
from visiongraft.options import check_choice, check_flag, is_number
from visiongraft.preprocess import MULTIPLE, PreprocessConfig

INPUTS = ("uint8", "float")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True)
class ExportOptions(ExporterOptions):
    """The exporter's options, besides those of every exporter.

    Attributes:
        input: ``"uint8"`` takes raw images; ``"float"`` what ``Preprocess`` returns, for
            users with their own preprocessing.
        precision: What backbone and head compute in. Preprocessing and decoding are always float32.
        budget: By how much a lower precision may worsen the task's headline, in its own unit.
        triton: A model repository of Triton Inference Server that the file is put into as well.
        open_classes: Whether the classes are optional inputs of the file, so that others can be given in each
            run, see ``Task.open_inputs``.
    """

    input: str = "uint8"
    precision: str = "fp32"
    budget: float = 0.01
    triton: str | Path | None = None
    open_classes: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("input", INPUTS), ("precision", PRECISIONS)):
            check_choice(name, getattr(self, name), known)
        check_flag("open_classes", self.open_classes)
        if self.open_classes and (self.input, self.precision) != ("uint8", "fp32"):
            raise OptionError("open_classes=True needs input='uint8' and precision='fp32'")
        if not is_number(self.budget) or self.budget < 0:
            raise OptionError(f"budget={self.budget!r} is not a number of at least 0")
        if self.triton is not None and not (self.triton and isinstance(self.triton, (str, Path))):
            raise OptionError(f"triton={self.triton!r} is not a folder; write it as ./NAME")

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
