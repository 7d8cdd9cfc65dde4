"""How good the model is, against always giving the same answer; and all of its metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from visiongraft.advice.sampling import labels_of
from visiongraft.options import is_number
from visiongraft.pages.figures import draw_matrix
from visiongraft.pages.parts import Figure, Part, Table, Text
from visiongraft.reporting.contract import ReportedRun, ReportSection
from visiongraft.training.evaluation import scalars
from visiongraft.training.selection.outcome import Outcome


class Headline(ReportSection):
    """The headline metric against a baseline, and the other metrics."""

    name, title, position = "headline", "Result", 0

    def parts(self) -> Iterator[Part]:
        run = self.run
        outcome = Outcome.of(run.history, run.task, len(run.validation or ()), run.config.select)
        yield Text(f"{outcome} of {outcome.epochs}.", strong=True)
        constant = baseline(run)
        if constant is not None:
            name, value = constant
            yield Text(
                f"Always answering {name!r}, the most frequent class in training, has {run.task.headline} "
                f"{value:.4f}."
            )
        if outcome.caution:
            yield Text(f"{outcome.caution[0].upper()}{outcome.caution[1:]}.")
        rows = [(name, value) for name, value in run.metrics.items() if is_number(value)]
        yield Table(
            ["metric", "value"], rows, "On the validation images, with the weights that were kept"
        )
        further = run.facts.get("evaluation", {})
        if further:
            yield Table(["evaluation set", "value"], list(further.items()))
        for note in run.notes:
            yield Text(note)


class Classes(ReportSection):
    """Tables of metrics that have one row per class, and the confusion matrix."""

    name, title, position = "classes", "Classes", 40

    def parts(self) -> Iterator[Part]:
        for name, table in self.run.metrics.items():
            if isinstance(table, Mapping) and table and _is_table(table):
                columns = list(dict.fromkeys(key for row in table.values() for key in row))
                rows = [[label, *(row.get(key) for key in columns)] for label, row in table.items()]
                yield Table([_words(name), *columns], rows)
        matrix, names = self.run.metrics.get("confusion_matrix"), self.run.class_names
        if matrix is not None and np.shape(matrix) == (len(names), len(names)):
            counts = np.asarray(matrix, dtype=np.int64)
            figure = draw_matrix(counts, names, names, "predicted class", "true class")
            yield Figure(figure, "Confusion matrix; colors are relative to the true class")
            yield confusions(counts, names, names)


def confusions(counts: Any, rows: list[str], columns: list[str]) -> Table:
    """Return a table of the most frequent confusions."""
    wrong = [
        (rows[i], columns[j], int(counts[i, j]), float(counts[i, j] / counts[i].sum()))
        for i, j in np.argwhere(counts > 0)
        if rows[i] != columns[j]
    ]
    wrong.sort(key=lambda row: -row[2])
    return Table(
        ["true class", "predicted class", "count", "fraction of the true class"],
        wrong[:100],
        "Most frequent confusions",
        folded=True,
    )


def baseline(run: ReportedRun) -> tuple[str, float] | None:
    """Measure a model that always answers the most frequent class of the training images.

    Args:
        run: The run.

    Returns:
        The class and the headline metric on the validation images; ``None`` if images have no single
        class, the task's examples no ideal results, or the images are no longer there.
    """
    examples = run.task.examples()
    if examples is None or examples.ideal is None or not run.training or not run.validation:
        return None
    labels = labels_of(run.task, run.training)
    if labels is None or not run.class_names:
        return None
    most = int(np.bincount(labels).argmax())
    example = int(np.flatnonzero(labels == most)[0])
    count = len(run.validation)
    answers = examples.ideal(run.task.collate([run.training.target(example)] * count))
    metrics = run.task.build_metrics()
    metrics.update(answers, run.task.collate([run.validation.target(i) for i in range(count)]))
    value = scalars(metrics.compute()).get(run.task.headline)
    return None if value is None else (run.class_names[most], value)


def _is_table(table: Mapping[Any, Any]) -> bool:
    return all(
        isinstance(row, Mapping) and all(v is None or is_number(v) for v in row.values())
        for row in table.values()
    )


def _words(name: str) -> str:
    return "class" if name == "per_class" else name.replace("_", " ")
