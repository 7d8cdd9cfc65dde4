"""The metrics of several heads, and one number for all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from visiongraft.errors import PluginError
from visiongraft.multi_task.names import of_head, prefixed
from visiongraft.options import is_number
from visiongraft.task import Arrays, Metrics, Task

COMBINED = "combined"


class MultiMetrics:
    """The metrics of each head over the samples that have its target.

    Args:
        heads: The task of each head.
    """

    def __init__(self, heads: Mapping[str, Task]) -> None:
        self._heads = heads
        self._metrics: dict[str, Metrics] = {}

    def update(self, decoded: Arrays, targets: Mapping[str, Any]) -> None:
        """Accumulate one batch."""
        for head, own in targets.items():
            if head not in self._metrics:
                self._metrics[head] = self._heads[head].build_metrics()
            rows = own["rows"].numpy()
            arrays = {name: values[rows] for name, values in of_head(head, decoded).items()}
            self._metrics[head].update(arrays, own["targets"])

    def compute(self) -> dict[str, Any]:
        """Compute the results of each head that has targets as ``head.metric``, and ``combined``."""
        found: dict[str, Any] = {}
        scores = []
        for head, task in self._heads.items():
            if head not in self._metrics:
                continue
            results = self._metrics[head].compute()
            if not is_number(results.get(task.headline), finite=False):
                raise PluginError(f"head {head!r}: its metrics lack the headline {task.headline!r}")
            found |= prefixed(head, results)
            scores.append(score(task, float(results[task.headline])))
        return {COMBINED: sum(scores) / len(scores) if scores else math.nan, **found}


def score(task: Task, value: float) -> float:
    """Convert a task's headline to a number in 0..1, of which more is better.

    A headline from 0 to 1 of which more is better stays as it is. Others are placed between their bounds;
    one without an upper bound, such as an error in pixels, counts as ``v / (1 + v)``.

    Args:
        task: Has ``better`` and ``bounds``.
        value: Its headline.
    """
    low, high = task.bounds or ((0.0, 1.0) if task.better == "higher" else (0.0, math.inf))
    if not math.isfinite(low):
        low, high, value = 0.0, 2.0, 1 + value / (1 + abs(value))
    above = value - low
    place = above / (high - low) if math.isfinite(high) else above / (1 + above)
    return place if task.better == "higher" else 1 - place
