"""How good the model is for each group of images, and how groups were weighed in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from visiongraft.options import is_number
from visiongraft.pages.figures import draw_lines, new_figure
from visiongraft.pages.parts import Figure, Lines, Part, Table, Text
from visiongraft.reporting.contract import ReportSection


class Groups(ReportSection):
    """Metrics by group of images, of the run itself and of ``visiongraft fairness --save``."""

    name, title, position = "groups", "Groups", 45

    def parts(self) -> Iterator[Part]:
        yield from self._of_run(self.run.facts.get("groups", {}))
        measured = self.run.facts.get("fairness", {})
        if measured:
            yield _table(measured["groups"], f"Measured on {measured['data']}, by {measured['by']}")
            yield Lines(measured["findings"])

    def _of_run(self, groups: Mapping[str, Mapping[str, Any]]) -> Iterator[Part]:
        if not groups:
            return
        config = self.run.config
        how = config.group_training or "each image counts alike"
        yield Text(f"Groups by {config.groups!r}; training: {how}.")
        yield _table(
            groups, "With the weights that were kept; groups of few images may differ by chance"
        )
        history = [record for record in self.run.history if "groups" in record]
        if history:
            epochs = [record["epoch"] + 1 for record in history]
            for key, label in (("losses", "training loss"), ("weights", "weight of the group")):
                lines = {
                    name or "(none)": (epochs, [r["groups"][key].get(name) for r in history])
                    for name in history[0]["groups"]["weights"]
                }
                axes = new_figure("epoch", label)
                draw_lines(axes, lines, digits="0.0000")
                yield Figure(axes, f"{label[0].upper()}{label[1:]} over the epochs")


def _table(groups: Mapping[str, Mapping[str, Any]], caption: str) -> Table:
    columns = list(dict.fromkeys(key for facts in groups.values() for key in facts))
    rows = [[name, *(_cell(facts.get(key)) for key in columns)] for name, facts in groups.items()]
    return Table(["group", *columns], rows, caption)


def _cell(value: Any) -> str | float | None:
    return value if value is None or is_number(value) else str(value)
