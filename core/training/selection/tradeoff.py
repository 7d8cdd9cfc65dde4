"""The trade-off curve of a run whose epochs are selected under a condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiongraft.saving.files import write_figure
from visiongraft.training.selection.criteria import VALIDATION, Condition

if TYPE_CHECKING:
    from visiongraft.training.run import Run

FILE = "tradeoff.png"


def draw_tradeoff(run: Run, folder: Path) -> None:
    """Draw the headline metric over each metric of an evaluation set that a condition bounds.

    A line per epoch connects its interpolations, if there are any; a cross marks what was kept.

    Args:
        run: A finished run.
        folder: Where to; nothing is written without such a condition.
    """
    conditions = [c for c in run.selection.conditions if c.dataset != VALIDATION]
    if not conditions:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(conditions), 3.2), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(conditions), squeeze=False)[0]
    for axes, condition in zip(panels, conditions, strict=True):
        _draw(axes, run, condition)
    write_figure(folder / FILE, figure)


def _draw(axes: Any, run: Run, condition: Condition) -> None:
    headline = run.network.task.headline
    for number, record in enumerate(run.history):
        points = [
            (one["evaluate_on"][condition.dataset].get(condition.metric), one[VALIDATION][headline])
            for one in _interpolations(record)
        ]
        axes.plot(*zip(*points, strict=True), marker=".", color=f"C{number % 10}", alpha=0.7)
    assert run.state.best is not None
    kept, before = run.state.best, run.state.before
    x = kept["evaluation"][condition.dataset].get(condition.metric)
    axes.plot([x], [kept["value"]], marker="x", markersize=10, color="black", label="kept")
    start = before[condition.dataset][condition.metric], before[VALIDATION].get(headline)
    axes.plot(*([value] for value in start), marker="o", color="gray", label="before training")
    axes.axvline(condition.bound(before), color="gray", linestyle=":", label="bound")
    axes.set(xlabel=f"{condition.dataset} {condition.metric}", ylabel=f"validation {headline}")
    axes.grid(alpha=0.3)
    axes.legend()


def _interpolations(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from record.get("interpolations", [record])
