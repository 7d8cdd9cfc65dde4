"""The contract of exporters: write a trained model as one file, proved to agree with PyTorch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from visiongraft.certificate import Certificate
    from visiongraft.data.samples import Samples
    from visiongraft.model import TransferModel


class Exporter(ABC):
    """Writes a trained model in one file format, and proves that it agrees with PyTorch.

    Attributes:
        name: Name by which users choose the exporter.
        suffix: File suffix, with the dot.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]

    @abstractmethod
    def export(
        self, model: TransferModel, path: Path, samples: Samples | None, **options: Any
    ) -> Certificate:
        """Export and verify.

        Args:
            model: The trained model; ``model.inference_graph()`` is what to trace.
            path: Where to write the file; it appears there only after every check has passed.
            samples: Real images with targets to verify on, or ``None``.
            options: The exporter's own.

        Returns:
            The certificate, also written beside the file.

        Raises:
            ExportError: The file could not be made or disagrees with PyTorch; no file is left.
        """
