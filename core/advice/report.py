"""Advice as values, in words, and as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from visiongraft.advice.costs import ScheduleCost
from visiongraft.advice.curves import LearningCurve
from visiongraft.advice.evidence import Evidence, interval_of
from visiongraft.advice.findings import Finding
from visiongraft.advice.page import advice_page
from visiongraft.advice.ranking import RankedBackbone, Score, describe_ranking
from visiongraft.advice.recommending import recommend
from visiongraft.system.durations import describe_duration

PROBE = "linear_probe"  # the scorer whose accuracy is put into words


@dataclass(frozen=True)
class Advice:
    """What is known about a dataset and some backbones before training.

    Attributes:
        task: Name of the task.
        images: Number of training images that it was computed from.
        available: Number of training images of the dataset.
        classes: Number of classes; ``None`` if images have no single class.
        identities: Number of identities, if the task embeds images by them.
        ranking: The backbones, the best first; without classes and identities in the given order, and
            without scores.
        left_out: Why backbones could not be loaded, by name.
        curve: The learning curve of the best backbone; ``None`` for fewer than 128 images.
        evidence: What trainings of parts of the best backbone found; ``None`` without classes.
        costs: What schedules would take with the best backbone.
        findings: What may be wrong with the images.
        warnings: What ``fit`` would warn of.
        statements: The advice in words, one line each.
        seconds: Time that it took.
        within: Time that it was given.
    """

    task: str
    images: int
    available: int
    classes: int | None
    identities: int | None
    ranking: tuple[RankedBackbone, ...]
    left_out: dict[str, str]
    curve: LearningCurve | None
    evidence: Evidence | None
    costs: tuple[ScheduleCost, ...]
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]
    seconds: float
    within: float
    statements: tuple[str, ...] = field(default=())

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return the headings and rows of the table of backbones."""
        names = list(self.ranking[0].scores) if self.ranking else []
        columns = ["backbone", "parameters", "ms per image", *names]
        rows = [
            [
                each.name,
                f"{each.parameters / 1e6:.1f} M",
                f"{1000 * each.seconds:.1f}",
                *(_cell(each.scores[name], len(self.ranking) > 1) for name in names),
            ]
            for each in self.ranking
        ]
        return columns, rows

    def lines(self) -> list[str]:
        """Return everything but the table, one line each."""
        return [
            *self.statements,
            *(f"left out {name}: {reason}" for name, reason in self.left_out.items()),
            *(f"warning: {line}" for line in self.warnings),
            *(f"look at the data: {finding}" for finding in self.findings),
            *map(str, self.costs),
        ]

    def html(self) -> str:
        """Return a page of HTML that needs no other file."""
        return advice_page(self)

    def __str__(self) -> str:
        """Return all lines, the table first."""
        columns, rows = self.table()
        table = [columns, *rows] if rows else []
        widths = [max(len(row[i]) for row in table) for i in range(len(columns))] if table else []
        shown = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        return "\n".join([*shown, *self.lines()])


def statements(advice: Advice, chance: float | None) -> Iterator[str]:
    """Put advice into words, each with its evidence.

    Args:
        advice: What was computed.
        chance: Fraction of the images of the most frequent class; ``None`` without classes.

    Yields:
        One line each.
    """
    yield _sampling(advice)
    yield from describe_ranking(advice.ranking)
    if chance is None:
        yield from _without_classes(advice)
    else:
        yield from _about_classes(advice, chance)
    if not advice.costs:
        yield (
            f"schedules were not timed, since no time for it was left of "
            f"{describe_duration(advice.within)}; pass a longer time as within"
        )


def _without_classes(advice: Advice) -> Iterator[str]:
    compared = "compare backbones and schedules by short runs of fit"
    if advice.identities is None:
        yield (
            f"task {advice.task!r} has no single class for each image, so that scores of backbones, probes "
            f"and learning curves have no meaning here; {compared}"
        )
    else:
        yield (
            f"task {advice.task!r} is measured on other identities than it is trained on, so that probes and "
            f"learning curves of {advice.identities} identities have no meaning here; {compared}"
        )


def _about_classes(advice: Advice, chance: float) -> Iterator[str]:
    best = advice.ranking[0]
    probe = best.scores.get(PROBE)
    tried = advice.evidence is not None and advice.evidence.recommendation is not None
    if not tried and probe is not None and probe.value is not None and probe.low is not None:
        # Half samples that are all right have no deviation, however few images there are.
        low = min(probe.low, interval_of(probe.value, advice.images).low)
        yield str(recommend(best.name, probe.value, low, chance))
    if advice.evidence is not None:
        yield from advice.evidence.lines()
    if advice.curve is not None:
        yield str(advice.curve)
        yield str(advice.curve.needed)


def _sampling(advice: Advice) -> str:
    took = f"in {describe_duration(advice.seconds)}"
    if advice.seconds > advice.within:
        took += f", more than the {describe_duration(advice.within)} that were given"
    if advice.images == advice.available:
        return f"computed from all {advice.images} training images {took}"
    return f"computed from {advice.images} of {advice.available} training images {took}"


def _cell(score: Score, compared: bool) -> str:
    if score.value is None or score.low is None or score.high is None:
        return "-"
    if score.low == score.high:
        text = f"{score.value:.6g}"
    else:
        text = f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})"
    return f"{text} *" if score.tied and compared else text
