"""The task's metric of a file, on images at their original size, to which the targets refer."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING

from visiongraft.comparison import Arrays, without_extras
from visiongraft.data.nearest import Size, at_size

if TYPE_CHECKING:
    from visiongraft.data.samples import Samples
    from visiongraft.exporters.verification.trial_images import RealImage
    from visiongraft.task import Task


class HeadlineMeter:
    """Measures decoded results with a task's metrics.

    Args:
        task: Builds the metrics.
        samples: Provides the targets.
        map_size: Height and width of the network's input if the file takes preprocessed images,
            so that its maps have that size; otherwise ``None``.
        extras: Names of extra outputs, which are not the metrics' business.
    """

    def __init__(
        self, task: Task, samples: Samples, map_size: Size | None, extras: Collection[str] = ()
    ) -> None:
        self.task = task
        self.samples = samples
        self.map_size = map_size
        self.extras = extras
        self._metrics = task.build_metrics()

    def add(self, image: RealImage, decoded: Arrays) -> None:
        """Add the results of a file for one image."""
        decoded = without_extras(decoded, self.extras)
        taken, original = image.sizes
        if self.map_size is not None and self.task.full_resolution_outputs:
            decoded = at_size(decoded, self.map_size, taken)
        if taken != original:
            rescale = self.task.export_support().rescale
            if rescale is not None:
                decoded = rescale(decoded, taken, original)
            elif self.task.full_resolution_outputs:
                decoded = at_size(decoded, taken, original)
        self._metrics.update(decoded, self.task.collate([self.samples.target(image.index)]))

    def value(self) -> float | None:
        """Return the task's headline, or ``None`` if it is undefined on these images."""
        value = self._metrics.compute()[self.task.headline]
        return float(value) if value is not None and math.isfinite(value) else None


def worsening(task: Task, reference: float, candidate: float) -> float:
    """Return by how much a metric is worse than a reference; below 0 if it is better."""
    return reference - candidate if task.better == "higher" else candidate - reference
