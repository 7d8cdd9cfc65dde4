"""What a learning-rate range test measured, and the rates that it suggests (Smith, 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, median
from typing import Any

from visiongraft.errors import OptionError
from visiongraft.saving.files import write_figure

SMOOTHING = 0.9  # weight of the past in the moving average of losses
DIVERGED = 3.0  # times the loss has to rise above its minimum, see ``has_diverged``
FIRST = 5  # losses of which an average says something
MEDIAN_DIFFERENCE = 0.954  # of two normal values with a standard deviation of 1
FLAT = 0.1  # fraction of its depth that the loss falls by before its descent begins
ROUNDING = 1e-6  # of the loss, which is no fall
SUFFIXES = (".png", ".svg")


@dataclass(frozen=True)
class RateSweep:
    """Losses at rising learning rates, and the rates that they suggest.

    Attributes:
        rates: Learning rate of each step, rising by a constant factor.
        losses: Loss of each step.
        phase: Phase of the schedule that was swept, from 1.
        trained: What the phase trains.
        settings: How to train with a suggested rate: the schedule with ``{rate}`` in place of the rate;
            empty if no option of the schedule sets the rate of the phase.
        phases: What each phase of the schedule trains.
        fitted: Whether the phase trains only a head that was fitted to the training images before.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    phase: int = 1
    trained: str = "all"
    settings: str = ""
    phases: tuple[str, ...] = ()
    fitted: bool = False

    @cached_property
    def smoothed(self) -> tuple[float, ...]:
        """Moving average of the losses, in which suggestions are looked for."""
        return tuple(moving_average(self.losses))

    @cached_property
    def descent(self) -> range:
        """The steps at which the loss falls: from its level at low rates to its minimum.

        Empty if it falls by no more than batches differ by chance. The level is the mean of the first
        losses, at rates that change nothing yet.
        """
        start = max(3, len(self.losses) // 5)
        if len(self.losses) <= start:
            return range(0)
        steps = [abs(b - a) for a, b in zip(self.losses, self.losses[1:], strict=False)]
        noise = median(steps) / MEDIAN_DIFFERENCE
        level = fmean(self.losses[:start])
        lowest = min(range(start, len(self.losses)), key=self.smoothed.__getitem__)
        depth = level - self.smoothed[lowest]
        if depth <= max(noise, ROUNDING * abs(level)):
            return range(0)
        high = [i for i in range(lowest) if self.smoothed[i] > level - FLAT * depth]
        return range(max(high, default=0), lowest + 1)

    @property
    def valley(self) -> float | None:
        """The rate in the middle of the longest fall of the loss; ``None`` if it never falls."""
        steps = self.descent
        fall = longest_fall([self.smoothed[i] for i in steps])
        return self.rates[steps[fall[len(fall) // 2]]] if steps else None

    @property
    def steepest(self) -> float | None:
        """The rate at which the loss falls fastest; ``None`` if it never falls."""
        falls = {i: self.smoothed[i] - self.smoothed[i + 1] for i in self.descent[:-1]}
        return self.rates[max(falls, key=falls.__getitem__)] if falls else None

    def to_json(self) -> dict[str, Any]:
        """Return all values as JSON values."""
        return {**asdict(self), "valley": self.valley, "steepest": self.steepest}

    def plot(self, path: str | Path) -> None:
        """Draw the losses over the rates, with both suggestions.

        Args:
            path: A ``.png`` or ``.svg`` file to write.

        Raises:
            OptionError: It has another suffix.
            VisiongraftError: It cannot be written.
        """
        from matplotlib.figure import Figure

        path = check_plot(path)
        figure = Figure(figsize=(6, 3.6), dpi=120, layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, color="C0", alpha=0.25, label="loss")
        axes.plot(self.rates, self.smoothed, color="C0", label="moving average")
        for name, rate, color in (
            ("valley", self.valley, "C1"),
            ("steepest", self.steepest, "C2"),
        ):
            if rate is not None:
                at = self.smoothed[self.rates.index(rate)]
                axes.plot([rate], [at], "o", color=color, label=f"{name} {rate:.1e}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        axes.set_title(f"phase {self.phase}: {self.trained}")
        axes.set_ylim(*_limits(self.smoothed))
        axes.grid(alpha=0.3)
        axes.legend()
        write_figure(path, figure)

    def __str__(self) -> str:
        """Describe the suggestions in one line."""
        what = f"phase {self.phase} ({self.trained})"
        if self.valley is None or self.steepest is None:
            return (
                f"{what}: between rates of {self.rates[0]:.1e} and {self.rates[-1]:.1e} the loss falls by no more "
                "than batches differ by chance, so that no rate is suggested; keep the rate of the schedule, or "
                "sweep with larger batches"
            )
        how = self.settings.replace("{rate}", f"{self.valley:.1e}")
        passing = f"; pass schedule={how!r}" if how else ""
        caution = f"; {self.caution}" if self.caution else ""
        return f"{what}: valley {self.valley:.1e}, steepest {self.steepest:.1e}{passing}{caution}"

    @property
    def caution(self) -> str:
        """Why the suggestions may mislead, in one line; empty if there is no reason to think so."""
        if not self.fitted:
            return ""
        return (
            "the head was fitted to these training images already: a rate that lowers their loss further need not "
            "help with others"
        )


def check_plot(path: str | Path) -> Path:
    """Return the path of a plot.

    Raises:
        OptionError: Its suffix is none of an image that can be drawn.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise OptionError(f"plot={path} is not a path with the suffix {' or '.join(SUFFIXES)}")
    return path


def rates_between(lowest: float, highest: float, steps: int) -> tuple[float, ...]:
    """Return rates that rise by a constant factor.

    Args:
        lowest: The first rate.
        highest: The last rate.
        steps: How many, at least 2.

    Examples:
        >>> [f"{rate:.0e}" for rate in rates_between(1e-4, 1e-1, 4)]
        ['1e-04', '1e-03', '1e-02', '1e-01']
    """
    factor = math.log(highest / lowest) / (steps - 1)
    return tuple(lowest * math.exp(factor * step) for step in range(steps))


def moving_average(values: Sequence[float]) -> list[float]:
    """Smooth values by an exponential moving average that begins without a bias.

    Examples:
        >>> [round(value, 3) for value in moving_average([1.0, 1.0, 0.0])]
        [1.0, 1.0, 0.631]
    """
    total, averages = 0.0, []
    for count, value in enumerate(values, start=1):
        total = SMOOTHING * total + (1 - SMOOTHING) * value
        averages.append(total / (1 - SMOOTHING**count))
    return averages


def has_diverged(losses: Sequence[float]) -> bool:
    """Check whether the average of losses has risen far above its minimum.

    The scale is what the loss had fallen by, or the minimum, if that is larger. Losses may be negative. The averages
    of the first few losses do not count: one easy batch at the beginning would make all others look diverged.

    Args:
        losses: The losses so far.

    Examples:
        >>> has_diverged([1.0] * 9), has_diverged([1.0] * 9 + [100.0])
        (False, True)
        >>> has_diverged([0.02, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
        False
    """
    averages = moving_average(losses)[FIRST - 1 :]
    if not averages:
        return False
    lowest = min(averages)
    return averages[-1] - lowest > DIVERGED * max(abs(lowest), averages[0] - lowest)


def longest_fall(values: Sequence[float]) -> list[int]:
    """Find the longest falling subsequence.

    Small rises in between do not end it, unlike in the longest falling run.

    Args:
        values: Numbers.

    Returns:
        The positions of its values, in order.

    Examples:
        >>> longest_fall([3.0, 2.0, 2.5, 1.0, 4.0])
        [0, 1, 3]
    """
    lengths: list[int] = []
    before: list[int | None] = []
    for i, value in enumerate(values):
        best = max(
            (j for j in range(i) if values[j] > value), key=lengths.__getitem__, default=None
        )
        lengths.append(1 if best is None else lengths[best] + 1)
        before.append(best)
    found: list[int] = []
    at = max(range(len(values)), key=lengths.__getitem__, default=None)
    while at is not None:
        found.append(at)
        at = before[at]
    return found[::-1]


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Return the limits of the vertical axis, which a loss that diverges would stretch."""
    lowest, first = min(values), values[0]
    margin = 0.1 * max(abs(lowest), first - lowest, 1e-6)
    return lowest - margin, max(first, lowest) + 5 * margin
