"""Advice as one HTML page without any other file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from visiongraft.advice.curves import LearningCurve
from visiongraft.pages.figures import draw_lines, new_figure
from visiongraft.pages.parts import Figure, Lines, Part, Section, Table, Text
from visiongraft.pages.writing import render_page

if TYPE_CHECKING:
    from visiongraft.advice.evidence import Evidence
    from visiongraft.advice.report import Advice


def advice_page(advice: Advice) -> str:
    """Return advice as a page of HTML; everything from data is escaped."""
    found = (
        ("advice", "In short", _summary(advice)),
        ("backbones", "Backbones", _backbones(advice)),
        ("trials", "Evidence trainings", _trials(advice.evidence)),
        ("curve", "Learning curve of a linear probe", _curve(advice.curve)),
        ("costs", "Time on this machine", _lines(map(str, advice.costs))),
        ("findings", "Look at", _lines(_remarks(advice))),
    )
    sections = [Section(name, title, made) for name, title, p in found if (made := list(p))]
    classes = "" if advice.classes is None else f", {advice.classes} classes"
    return render_page(
        "Advice before training",
        sections,
        [f"Task {advice.task}; {advice.images} of {advice.available} training images{classes}."],
    )


def draw_learning_curve(curve: LearningCurve) -> Any:
    """Draw accuracy over the number of images, with the interval of the extrapolation.

    Args:
        curve: The curve.

    Returns:
        The figure.
    """
    axes = new_figure("training images", "accuracy", x_axis_type="log")
    ends = [curve.images[-1], curve.expected_images]
    lines = {
        "measured": (list(curve.images), list(curve.accuracies)),
        "extrapolated": (ends, [curve.accuracies[-1], curve.expected]),
        "interval": ([curve.expected_images] * 2, [curve.low, curve.high]),
    }
    draw_lines(axes, lines)
    return axes


def _summary(advice: Advice) -> Iterator[Part]:
    if advice.evidence is not None and advice.evidence.recommendation is not None:
        yield Text(str(advice.evidence.recommendation), strong=True)
    yield Lines(advice.statements)


def _backbones(advice: Advice) -> Iterator[Part]:
    columns, rows = advice.table()
    if rows:
        caption = "Intervals of 95 %; *: cannot be distinguished from the best"
        yield Table(columns, rows, caption)


def _trials(evidence: Evidence | None) -> Iterator[Part]:
    if evidence is None or not evidence.trials:
        return
    rows = [
        (t.what, t.schedule, t.epochs, t.accuracy.value, t.accuracy.low, t.accuracy.high)
        for t in evidence.trials
    ]
    yield Table(["trained", "schedule", "epochs", "accuracy", "from", "to"], rows)


def _curve(curve: LearningCurve | None) -> Iterator[Part]:
    if curve is not None:
        caption = "The last point is extrapolated, with its interval of 95 %"
        yield Figure(draw_learning_curve(curve), caption)


def _lines(lines: Iterator[str]) -> Iterator[Part]:
    found = list(lines)
    if found:
        yield Lines(found)


def _remarks(advice: Advice) -> Iterator[str]:
    for name, reason in advice.left_out.items():
        yield f"left out {name}: {reason}"
    yield from advice.warnings
    yield from map(str, advice.findings)
