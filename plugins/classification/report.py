"""What the report of a classifier adds: calibration, thresholds, and precision over recall."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from visiongraft.pages.figures import draw_bars, draw_lines, draw_matrix, new_figure
from visiongraft.pages.parts import Figure, Part, Text
from visiongraft.plugins.classification.metrics import MAX_CONFUSION_CLASSES
from visiongraft.plugins.classification.task import Classification
from visiongraft.reporting.contract import ReportedRun, ReportSection, Results
from visiongraft.reporting.sections.summary import confusions

BINS = 10
CURVES = 8  # classes whose precision is drawn
POINTS = 200  # of a curve


class Confidence(ReportSection):
    """How far probabilities can be trusted, and what a threshold on them would do."""

    name, title, position, watches = "confidence", "Confidence", 45, True

    def __init__(self, run: ReportedRun) -> None:
        super().__init__(run)
        self.applies = isinstance(run.task, Classification)
        self.probabilities: list[NDArray[np.float64]] = []
        self.targets: list[NDArray[np.int64]] = []

    def update(self, results: Results) -> None:
        if self.applies:
            self.probabilities.append(np.asarray(results.decoded["probabilities"], np.float64))
            self.targets.append(results.targets.numpy().astype(np.int64))

    def parts(self) -> Iterator[Part]:
        if not self.applies:
            return
        names = self.run.class_names
        probabilities = np.concatenate(self.probabilities)
        targets = np.concatenate(self.targets)
        if targets.ndim == 2:
            yield _thresholds(probabilities.ravel(), targets.ravel() == 1)
            present = targets == 1
        else:
            confidence = probabilities.max(axis=1)
            correct = probabilities.argmax(axis=1) == targets
            yield _calibration(confidence, correct)
            yield _coverage(confidence, correct)
            present = targets[:, None] == np.arange(len(names))
            if len(names) > MAX_CONFUSION_CLASSES:
                yield from _large_matrix(probabilities, targets, names)
        yield from _precision(probabilities, present, names)


def _calibration(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> Figure:
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    used = [i for i in range(BINS) if (bins == i).any()]
    labels = [f"{i / BINS:.1f} to {(i + 1) / BINS:.1f} ({int((bins == i).sum())})" for i in used]
    values = {
        "mean probability": [float(confidence[bins == i].mean()) for i in used],
        "accuracy": [float(correct[bins == i].mean()) for i in used],
    }
    return Figure(
        draw_bars(labels, values, "fraction"),
        "Calibration: images by the probability of the predicted class, with their number; accuracy below the "
        "mean probability is overconfidence",
    )


def _coverage(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> Figure:
    thresholds = np.linspace(0, 1, POINTS // 2 + 1)
    kept = [confidence >= t for t in thresholds]
    accuracy = [float(correct[k].mean()) if k.any() else None for k in kept]
    axes = new_figure("threshold of the probability", "fraction", y_range=(-0.02, 1.02))
    coverage = [float(k.mean()) for k in kept]
    lines: dict[str, Sequence[float | None]] = {
        "accuracy of what is kept": accuracy,
        "kept": coverage,
    }
    draw_lines(axes, {n: (thresholds.tolist(), v) for n, v in lines.items()}, markers=False)
    return Figure(axes, "If predictions below a threshold are left to a person")


def _thresholds(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> Figure:
    thresholds = np.linspace(0, 1, POINTS // 2 + 1)
    lines: dict[str, list[float | None]] = {"precision": [], "recall": [], "F1": []}
    for t in thresholds:
        found = scores >= t
        right = int((found & positive).sum())
        lines["precision"].append(right / found.sum() if found.any() else None)
        lines["recall"].append(right / max(1, positive.sum()))
        lines["F1"].append(2 * right / max(1, found.sum() + positive.sum()))
    axes = new_figure("threshold of the probability", "over all labels", y_range=(-0.02, 1.02))
    draw_lines(axes, {n: (thresholds.tolist(), v) for n, v in lines.items()}, markers=False)
    return Figure(axes, "Precision, recall and F1 over the threshold")


def _precision(
    probabilities: NDArray[np.float64], present: NDArray[np.bool_], names: list[str]
) -> Iterator[Part]:
    """Draw precision over recall of the classes where it is worst."""
    curves = {}
    for i in np.flatnonzero(present.any(axis=0)):
        order = np.argsort(-probabilities[:, i], kind="stable")
        found = present[order, i].cumsum()
        recall, precision = found / found[-1], found / np.arange(1, len(order) + 1)
        average = float(precision[present[order, i]].mean())
        curves[names[i]] = (average, recall, precision)
    worst = sorted(curves, key=lambda name: curves[name][0])[:CURVES]
    axes = new_figure("recall", "precision", y_range=(-0.02, 1.02), x_range=(-0.02, 1.02))
    lines = {}
    for name in worst:
        _, recall, precision = curves[name]
        chosen = np.unique(np.linspace(0, len(recall) - 1, POINTS).astype(int))
        lines[name] = (recall[chosen].tolist(), precision[chosen].tolist())
    draw_lines(axes, lines, markers=False)
    some = (
        f" of the {len(worst)} classes with the lowest"
        if len(curves) > len(worst)
        else ", by class"
    )
    yield Figure(
        axes, f"Precision over recall{some}{' average precision' if 'of the' in some else ''}"
    )


def _large_matrix(
    probabilities: NDArray[np.float64], targets: NDArray[np.int64], names: list[str]
) -> Iterator[Part]:
    count = len(names)
    pairs = np.bincount(targets * count + probabilities.argmax(axis=1), minlength=count**2)
    counts = pairs.reshape(count, count)
    yield Text("The confusion matrix is large; the table below it names the confusions.")
    yield Figure(
        draw_matrix(counts, names, names, "predicted class", "true class"), "Confusion matrix"
    )
    yield confusions(counts, names, names)
