"""What the report of a detector adds: precision over recall, thresholds, and confusions with background."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from visiongraft.pages.figures import draw_lines, draw_matrix, new_figure
from visiongraft.pages.parts import Figure, Part, Text
from visiongraft.plugins.detection.matching import IOU, match_objects
from visiongraft.plugins.detection.task import Detection
from visiongraft.reporting.contract import ReportedRun, ReportSection, Results
from visiongraft.reporting.sections.summary import confusions

BACKGROUND = "(background)"
POINTS = 101  # thresholds of a curve


class PrecisionRecall(ReportSection):
    """Precision over recall at an intersection over union of 0.5."""

    name, title, position = "precision_recall", "Precision and recall", 42

    def parts(self) -> Iterator[Part]:
        curve = self.run.metrics.get("precision_at_recall")
        if not isinstance(self.run.task, Detection) or not curve:
            return
        axes = new_figure("recall", "precision", y_range=(-0.02, 1.02))
        recalls = np.linspace(0, 1, len(curve)).tolist()
        draw_lines(axes, {"mean over the classes": (recalls, curve)}, markers=False)
        yield Figure(axes, f"Precision over recall at an intersection over union of {IOU}")


class Confusions(ReportSection):
    """Which classes are taken for each other or for background, at the best threshold."""

    name, title, position, watches = "confusions", "Confusions and thresholds", 45, True

    def __init__(self, run: ReportedRun) -> None:
        super().__init__(run)
        self.applies = isinstance(run.task, Detection)
        self.matches: list[tuple[float, int, int]] = []
        self.objects = np.zeros(len(run.class_names), np.int64)

    def update(self, results: Results) -> None:
        if not self.applies:
            return
        decoded = results.decoded
        for i, target in enumerate(results.targets):
            count = int(decoded["count"][i])
            boxes, scores, labels = (
                decoded[name][i, :count] for name in ("boxes", "scores", "labels")
            )
            self.matches += match_objects(boxes, scores, labels, target)
            single = target["labels"][~target["crowd"]].numpy()
            self.objects += np.bincount(single, minlength=len(self.objects))

    def parts(self) -> Iterator[Part]:
        if not self.applies:
            return
        thresholds = np.linspace(0, 1, POINTS)
        scores = np.array([score for score, _, _ in self.matches])
        found, true = (np.array([m[i] for m in self.matches], dtype=int) for i in (1, 2))
        right = found == true
        total = int(self.objects.sum())
        lines: dict[str, list[float | None]] = {"precision": [], "recall": [], "F1": []}
        f1 = []
        for t in thresholds:
            kept = scores >= t
            correct, detected = int((right & kept).sum()), int(kept.sum())
            lines["precision"].append(correct / detected if detected else None)
            lines["recall"].append(correct / max(1, total))
            f1.append(2 * correct / max(1, detected + total))
        lines["F1"] = [*f1]
        best = float(thresholds[int(np.argmax(f1))])
        axes = new_figure("threshold of the score", "over all classes", y_range=(-0.02, 1.02))
        draw_lines(axes, {n: (thresholds.tolist(), v) for n, v in lines.items()}, markers=False)
        yield Text(
            f"F1 is highest at a score threshold of {best:.2f}; detections of an intersection over union of "
            f"at least {IOU} with an object count as that object."
        )
        yield Figure(axes, "Precision, recall and F1 over the threshold of the score")
        kept = scores >= best
        counts = confusion_counts(found[kept], true[kept], self.objects)
        names = [*self.run.class_names, BACKGROUND]
        yield Figure(
            draw_matrix(counts, names, names, "predicted class", "true class"),
            f"Confusion matrix at a score threshold of {best:.2f}; {BACKGROUND} as the true class are "
            "detections of nothing, as the predicted class objects that were missed",
        )
        yield confusions(counts, names, names)


def confusion_counts(
    found: Sequence[int] | NDArray[np.int64],
    true: Sequence[int] | NDArray[np.int64],
    objects: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Count confusions; the last row and column are background.

    Args:
        found: Class id of each detection.
        true: Class id of its object; -1 for none.
        objects: Number of objects of each class.

    Returns:
        int64 (C + 1, C + 1), true classes as rows.
    """
    classes = len(objects)
    counts = np.zeros((classes + 1, classes + 1), np.int64)
    np.add.at(counts, (np.asarray(true, int), np.asarray(found, int)), 1)  # -1 is the last row
    counts[:classes, classes] = objects - counts[:classes].sum(axis=1)
    return counts
