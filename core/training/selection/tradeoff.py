"""The trade-off curve of a run whose epochs are selected under a condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiongraft.saving.files import write_figure
from visiongraft.training.selection.criteria import VALIDATION, Condition

if TYPE_CHECKING:
    from visiongraft.training.run import Run
    from visiongraft.training.selection.trials import Trial

FILE = "tradeoff.png"


def draw_tradeoff(run: Run, folder: Path, trials: Sequence[Trial] = ()) -> None:
    """Draw the headline metric over each metric of an evaluation set that a condition bounds.

    A line per epoch connects its interpolations, if there are any; a cross marks what was kept.

    Args:
        run: A finished run.
        folder: Where to; nothing is written without such a condition.
        trials: Its trainings, if it tried several strengths of a transfer loss; each has a color.
    """
    conditions = [c for c in run.selection.conditions if c.dataset != VALIDATION]
    if not conditions:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(conditions), 3.2), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(conditions), squeeze=False)[0]
    for axes, condition in zip(panels, conditions, strict=True):
        _draw(axes, run, condition, trials)
    write_figure(folder / FILE, figure)


def lines_of(
    history: Sequence[Mapping[str, Any]], condition: Condition, headline: str
) -> Iterator[list[tuple[Any, Any]]]:
    """Yield for each epoch the points of its trade-off: one, or one for each interpolation.

    Args:
        history: The records of the epochs.
        condition: Bounds the metric of an evaluation set, which is the first value of a point.
        headline: Name of the metric on the validation images, the second value.
    """
    for record in history:
        yield [
            (one["evaluate_on"][condition.dataset].get(condition.metric), one[VALIDATION][headline])
            for one in record.get("interpolations", [record])
        ]


def _draw(axes: Any, run: Run, condition: Condition, trials: Sequence[Trial]) -> None:
    headline = run.network.task.headline
    for color, trial in enumerate(trials):
        for number, points in enumerate(lines_of(trial.state.history, condition, headline)):
            label = None if number else trial.name
            _line(axes, points, color, label)
    for color, points in enumerate(() if trials else lines_of(run.history, condition, headline)):
        _line(axes, points, color)
    assert run.state.best is not None
    kept, before = run.state.best, run.state.before
    x = kept["evaluation"][condition.dataset].get(condition.metric)
    y = kept["results"][headline]
    axes.plot([x], [y], marker="x", markersize=10, color="black", linestyle="", label="kept")
    start = before[condition.dataset][condition.metric], before[VALIDATION].get(headline)
    axes.plot(*([value] for value in start), marker="o", color="gray", label="before training")
    axes.axvline(condition.bound(before), color="gray", linestyle=":", label="bound")
    axes.set(xlabel=f"{condition.dataset} {condition.metric}", ylabel=f"validation {headline}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _line(axes: Any, points: Sequence[Any], color: int, label: str | None = None) -> None:
    x, y = zip(*points, strict=True)
    axes.plot(x, y, marker=".", color=f"C{color % 10}", alpha=0.7, label=label)
