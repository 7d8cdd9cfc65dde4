"""Auto-RGN: relative gradient norms set the learning rates of the stages (Lee et al., 2023)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from visiongraft.errors import ScheduleError
from visiongraft.options import is_integer
from visiongraft.schedules import (
    PROBE_RATE,
    TUNING_RATE,
    Phase,
    Phases,
    probe_length,
    schedule,
)

LOWEST = 1e-4  # the least factor on a learning rate: rates are positive


@schedule
def auto_rgn(
    stages: Sequence[str],
    epochs: int,
    *,
    probe_epochs: int | None = None,
    probe_learning_rate: float = PROBE_RATE,
    learning_rate: float = TUNING_RATE,
    interval: int = 1,
    batch_norm: str = "frozen",
) -> Phases:
    """Train the head first, then everything at rates by relative gradient norms (Lee et al., 2023).

    Every ``interval`` epochs the rate of each stage and of the head becomes ``learning_rate`` times its ratio
    of gradient norm to weight norm, divided by the largest such ratio. The rates fall along a cosine
    over the run. In the first interval after the probe, which measures the ratios, all rates are equal.
    """
    if not is_integer(interval, 1):
        raise ScheduleError(f"auto_rgn(interval={interval!r}): expected a positive integer")
    probe = probe_length("auto_rgn", probe_epochs, epochs)
    tuning = Phase(interval, "all", learning_rate, batch_norm=batch_norm, shape="constant")
    done = 0
    rates: dict[str, float] = {}
    if probe:
        history = yield Phase(probe, "head", probe_learning_rate, augment=False)
        done = len(history)
    first = done
    while done < epochs:
        cosine = (1 + math.cos(math.pi * (done - first) / (epochs - first))) / 2
        length = min(interval, epochs - done)
        history = yield replace(
            tuning, epochs=length, learning_rate=learning_rate * cosine, rates=rates
        )
        done, rates = len(history), relative_rates(history[-1]["norms"])


def relative_rates(norms: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Compute factors on learning rates by relative gradient norms.

    Args:
        norms: Of each part the norm of its ``weights`` and the mean norm of its ``gradients``.

    Returns:
        By part its ratio of the two, divided by the largest one; 1 where the ratio is not finite.

    Examples:
        >>> relative_rates({
        ...     "stem": {"weights": 4.0, "gradients": 1.0}, "head": {"weights": 1.0, "gradients": 1.0}
        ... })
        {'stem': 0.25, 'head': 1.0}
    """
    ratios = {
        part: norm["gradients"] / norm["weights"] if norm["weights"] else math.inf
        for part, norm in norms.items()
    }
    largest = max((ratio for ratio in ratios.values() if math.isfinite(ratio)), default=0.0)
    return {
        part: max(ratio / largest, LOWEST) if largest and math.isfinite(ratio) else 1.0
        for part, ratio in ratios.items()
    }
