"""Classification metrics over a whole dataset.

Undefined values, such as the recall of a class without images, are ``None`` and are left out of
averages over classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visiongraft.errors import DataError
from visiongraft.task import Arrays

MAX_CONFUSION_CLASSES = 100  # a larger confusion matrix would fill reports and model cards
TOP_K = 5
CALIBRATION_BINS = 15

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


class Counts(NamedTuple):
    """Numbers of images for each class, each int64 (C,).

    Attributes:
        correct: Those of the class that were decided to be of it.
        decided: Those decided to be of it.
        images: Those of the class.
    """

    correct: Integers
    decided: Integers
    images: Integers


class ClassificationMetrics(ABC):
    """Accumulates predictions and targets, and computes all metrics in one pass at the end.

    The results do not depend on how the images were batched.

    Args:
        class_names: Class names.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        self._probabilities: list[Floats] = []
        self._decisions: list[Integers] = []
        self._targets: list[Integers] = []

    def update(self, decoded: Arrays, targets: Tensor) -> None:
        """Add one batch.

        Args:
            decoded: ``probabilities``, float (N, C), and ``labels``, int64 (N,) or (N, C).
            targets: The output of ``Classification.collate``, on the CPU.
        """
        self._probabilities.append(np.array(decoded["probabilities"], np.float32))
        self._decisions.append(np.array(decoded["labels"], np.int64))
        self._targets.append(targets.numpy().astype(np.int64))

    def compute(self) -> dict[str, Any]:
        """Compute the metrics of all batches so far.

        Returns:
            Metrics by name, as JSON values.

        Raises:
            DataError: There were no batches.
        """
        if not self._targets:
            raise DataError("there are no images to evaluate")
        probabilities = np.concatenate(self._probabilities).clip(0, 1)  # of rounding errors
        decisions = np.concatenate(self._decisions)
        return self._results(probabilities, decisions, np.concatenate(self._targets))

    @abstractmethod
    def _results(
        self, probabilities: Floats, decisions: Integers, targets: Integers
    ) -> dict[str, Any]: ...

    def _per_class(
        self, counts: Counts, probabilities: Floats, present: Iterable[NDArray[np.bool_]]
    ) -> dict[str, dict[str, float | int | None]]:
        """Compute the metrics of each class.

        Args:
            counts: For each class.
            probabilities: (N, C).
            present: For each class, whether each image is of it, bool (N,).
        """
        correct, decided, images = (values.tolist() for values in counts)
        return {
            name: {
                "precision": _fraction(correct[i], decided[i]),
                "recall": _fraction(correct[i], images[i]),
                "f1": _fraction(2 * correct[i], decided[i] + images[i]),
                "average_precision": _average_precision(probabilities[:, i], positive),
                "images": images[i],
            }
            for i, (name, positive) in enumerate(zip(self.class_names, present, strict=True))
        }


class SingleLabelMetrics(ClassificationMetrics):
    """Metrics of single-label classification.

    ``accuracy`` is the fraction of images whose most probable class is correct; ``top5_accuracy``
    (with six classes or more) that of images whose class is among the five most probable.
    ``calibration_error`` is the expected calibration error over 15 bins. ``confusion_matrix``
    has true classes as rows and predicted classes as columns, for up to 100 classes.
    """

    def _results(
        self, probabilities: Floats, decisions: Integers, targets: Integers
    ) -> dict[str, Any]:
        count = len(self.class_names)
        correct = decisions == targets
        counts = Counts(
            *(np.bincount(ids, minlength=count) for ids in (targets[correct], decisions, targets))
        )
        per_class = self._per_class(counts, probabilities, (targets == i for i in range(count)))
        results = {
            "accuracy": float(correct.mean()),
            "macro_f1": _mean(per_class, "f1"),
            "mean_average_precision": _mean(per_class, "average_precision"),
            "calibration_error": _calibration_error(probabilities, targets),
        }
        if count > TOP_K:
            # Of equally probable classes the first comes first, as in decisions.
            own = np.take_along_axis(probabilities, targets[:, None], axis=1)
            first = np.arange(count) < targets[:, None]
            ahead = (probabilities > own) | ((probabilities == own) & first)
            results["top5_accuracy"] = float((ahead.sum(axis=1) < TOP_K).mean())
        tables: dict[str, Any] = {"per_class": per_class}
        if count <= MAX_CONFUSION_CLASSES:
            pairs = np.bincount(targets * count + decisions, minlength=count**2)
            tables["confusion_matrix"] = pairs.reshape(count, count).tolist()
        return {**results, **tables}


class MultiLabelMetrics(ClassificationMetrics):
    """Metrics of multi-label classification.

    ``mean_average_precision`` is the mean over the classes that have images, 0 if there are none;
    ``macro_f1`` the mean of the F1 of each class, ``micro_f1`` the F1 over all decisions;
    ``exact_match`` the fraction of images whose labels are all correct.
    """

    def _results(
        self, probabilities: Floats, decisions: Integers, targets: Integers
    ) -> dict[str, Any]:
        counts = Counts(
            *(values.sum(axis=0) for values in (decisions & targets, decisions, targets))
        )
        per_class = self._per_class(counts, probabilities, targets.T == 1)
        correct, decided, images = (int(values.sum()) for values in counts)
        return {
            "mean_average_precision": _mean(per_class, "average_precision") or 0.0,
            "macro_f1": _mean(per_class, "f1"),
            "micro_f1": _fraction(2 * correct, decided + images),
            "exact_match": float((decisions == targets).all(axis=1).mean()),
            "per_class": per_class,
        }


def _fraction(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _average_precision(scores: Floats, positive: NDArray[np.bool_]) -> float | None:
    """Average the precision over the positive images, at the score of each as the threshold."""
    if not positive.any():
        return None
    order = np.argsort(-scores)
    found = positive[order].cumsum()
    thresholds = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # equal: one
    precision = found[thresholds] / (thresholds + 1)
    return float((np.diff(found[thresholds], prepend=0) * precision).sum() / found[-1])


def _calibration_error(probabilities: Floats, targets: Integers) -> float:
    """Sum over bins: the fraction of images times |accuracy - mean highest probability|."""
    confidence = probabilities.max(axis=1)
    edges = torch.linspace(0, 1, CALIBRATION_BINS + 1).numpy()
    correct = probabilities.argmax(axis=1) == targets
    gaps = np.bincount(np.digitize(confidence, edges), correct - confidence.astype(np.float64))
    return float(np.abs(gaps).sum() / len(targets))


def _mean(per_class: dict[str, dict[str, float | int | None]], name: str) -> float | None:
    values = [v for results in per_class.values() if (v := results[name]) is not None]
    return float(np.mean(values)) if values else None
