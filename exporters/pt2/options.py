"""The options of the .pt2 exporter."""

from __future__ import annotations

from dataclasses import dataclass

from visiongraft.exporters.options import batches_up_to
from visiongraft.exporters.verification.trial_images import BATCHES


@dataclass(frozen=True)
class Pt2Options:
    """The exporter's options.

    Attributes:
        size: Fixed height and width of the images in pixels; ``None`` for any size.
        max_batch: The largest batch to prove.
    """

    size: tuple[int, int] | None = None
    max_batch: int = BATCHES[-1]

    def __post_init__(self) -> None:
        batches_up_to(self.max_batch)  # refuses anything but a batch size

    @property
    def batches(self) -> tuple[int, ...]:
        """Sizes of the batches to try, above one image."""
        return batches_up_to(self.max_batch)
