"""How the weights were chosen: trade-off curves of conditions, and the strengths that were tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from visiongraft.pages.figures import draw_lines, new_figure
from visiongraft.pages.parts import Figure, Part, Table, Text
from visiongraft.reporting.contract import ReportSection
from visiongraft.training.selection.criteria import VALIDATION, Condition
from visiongraft.training.selection.tradeoff import lines_of


class Chosen(ReportSection):
    """What ``select`` bounds, and the trainings of a run with several strengths."""

    name, title, position = "selection", "Selection", 15

    def parts(self) -> Iterator[Part]:
        run, headline = self.run, self.run.task.headline
        for condition in run.config.selection.conditions:
            if condition.dataset != VALIDATION:
                yield self._tradeoff(condition)
        for line in run.facts.get("selection", {}).get("not satisfied", ()):
            yield Text(f"Not satisfied: {line}.")
        trainings: Mapping[str, Mapping[str, Any]] = run.facts.get("strengths", {})
        if trainings:
            first = next(iter(trainings.values()))
            columns = [n for n in first if n not in ("epoch", "folder")]
            yield Table(
                ["transfer loss", "epoch", *columns],
                [
                    (name, facts["epoch"] + 1, *(_shown(facts.get(c)) for c in columns))
                    for name, facts in trainings.items()
                ],
                f"Each strength with the epoch that was kept of it; {headline} is that on the validation images",
            )

    def _tradeoff(self, condition: Condition) -> Figure:
        run, headline = self.run, self.run.task.headline
        lines: dict[str, Any] = {}
        points = list(lines_of(run.history, condition, headline))
        if all(len(each) == 1 for each in points):
            points = [[each[0] for each in points]]
        for number, each in enumerate(points, 1):
            xs, ys = zip(*each, strict=True)
            lines["epochs" if len(points) == 1 else f"epoch {number}"] = xs, ys
        where = f"{condition.dataset} {condition.metric}"
        axes = new_figure(where, f"validation {headline}")
        draw_lines(axes, lines)
        word = "at least" if condition.at_least else "at most"
        change = ", relative to the value before training" if condition.relative else ""
        return Figure(
            axes,
            f"Trade-off: {headline} on the validation images over {where}, for which select asks {word} "
            f"{condition.threshold:g}{change}",
        )


def _shown(value: Any) -> Any:
    return "yes" if value is True else "no" if value is False else value
