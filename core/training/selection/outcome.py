"""What a run came to: its best epoch, its last one, and how far the choice among epochs may flatter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visiongraft.training.measuring.nested import FEWEST, nested_estimate

if TYPE_CHECKING:
    from visiongraft.task import Task

WORTH_SAYING = 0.01  # of a metric from 0 to 1


@dataclass(frozen=True)
class Outcome:
    """The headline metric of a run.

    Attributes:
        headline: Name of the metric.
        best: Its value at the epoch that was kept, on the validation images.
        best_epoch: That epoch, from 1.
        last: Its value after the last epoch.
        epochs: Number of epochs.
        images: Number of validation images.
        optimism: By how much the best value may be too good; ``None`` if that is not known.
        chosen: Whether the epoch was chosen by this metric.
        nested: What choosing the best epoch is worth on other images, by nested validation.
    """

    headline: str
    best: float
    best_epoch: int
    last: float
    epochs: int
    images: int
    optimism: float | None
    chosen: bool = True
    nested: float | None = None

    @classmethod
    def of(
        cls, history: Sequence[Mapping[str, Any]], task: Task, images: int, select: str = "best"
    ) -> Outcome:
        """Summarize a run.

        Args:
            history: The record of each epoch, at least one.
            task: Names the headline metric.
            images: Number of validation images.
            select: The setting ``select`` of the run.
        """
        chosen = select.startswith("best")
        best = [record for record in history if record["best"]][-1]
        value, last = (record["validation"][task.headline] for record in (best, history[-1]))
        fraction = chosen and task.better == "higher" and task.bounds in (None, (0, 1))
        choices = sum(len(record.get("interpolations", [record])) for record in history)
        optimism = optimism_of_best(value, images, choices) if fraction else None
        epoch = best["epoch"] + 1
        nested = nested_estimate(history, task.better)
        return cls(
            task.headline, value, epoch, last, len(history), images, optimism, chosen, nested
        )

    def __str__(self) -> str:
        """Describe both epochs in one line."""
        word = "best" if self.chosen else "last" if self.best_epoch == self.epochs else "selected"
        best = f"{word} {self.headline} {self.best:.4f} at epoch {self.best_epoch}"
        if self.best_epoch == self.epochs:
            return best
        return f"{best}, last {self.last:.4f} at epoch {self.epochs}"

    @property
    def caution(self) -> str:
        """One line on how far the best value may flatter; empty if that is too little to matter."""
        if self.nested is not None:
            return f"nested validation: {self.headline} {self.nested:.4f} on images that did not choose the epoch"
        if self.optimism is None or self.optimism < WORTH_SAYING:
            return ""
        nested = ", or pass validation='nested'" if self.images >= FEWEST else ""
        images = "1 validation image" if self.images == 1 else f"{self.images} validation images"
        return (
            f"the best of {self.epochs} epochs on {images} may flatter by up to "
            f"{self.optimism:.2f}; measure {self.headline} on other images for an honest number{nested}"
        )


def optimism_of_best(value: float, images: int, epochs: int) -> float:
    """Estimate by how much the best of several measurements of a fraction may be too good.

    It is the expected maximum of as many independent normal errors, sqrt(2 ln(epochs)) standard errors,
    which is an upper bound: the errors of epochs that are measured on the same images are alike.

    Args:
        value: The best fraction, in 0..1.
        images: Number of images of each measurement.
        epochs: Number of measurements.

    Returns:
        The bound, in the unit of ``value``; 0 for a single measurement.

    Examples:
        >>> round(optimism_of_best(0.9, images=153, epochs=10), 3)
        0.053
        >>> optimism_of_best(0.9, images=153, epochs=1)
        0.0
    """
    if not 0 <= value <= 1 or images < 1:
        return math.nan
    # One image more of each kind: that all of a few are right does not mean that no error is possible.
    smoothed = (value * images + 1) / (images + 2)
    error = math.sqrt(smoothed * (1 - smoothed) / images)
    return error * math.sqrt(2 * math.log(epochs))
