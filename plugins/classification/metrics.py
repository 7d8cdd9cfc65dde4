"""Classification metrics over a whole dataset, computed by torchmetrics.

Undefined values, such as the recall of a class without images, are ``None`` and are left out of
averages over classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchmetrics.functional.classification import (
    binary_average_precision,
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_stat_scores,
    multilabel_exact_match,
    multilabel_stat_scores,
)

from visiongraft.errors import DataError
from visiongraft.task import Arrays

MAX_CONFUSION_CLASSES = 100  # a larger confusion matrix would fill reports and model cards
TOP_K = 5
CALIBRATION_BINS = 15


class ClassificationMetrics(ABC):
    """Accumulates predictions and targets, and computes all metrics in one pass at the end.

    The results do not depend on how the images were batched.

    Args:
        class_names: Class names.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        self._probabilities: list[Tensor] = []
        self._decisions: list[Tensor] = []
        self._targets: list[Tensor] = []

    def update(self, decoded: Arrays, targets: Tensor) -> None:
        """Add one batch.

        Args:
            decoded: ``probabilities``, float (N, C), and ``labels``, int64 (N,) or (N, C).
            targets: The output of ``Classification.collate``, on the CPU.
        """
        self._probabilities.append(torch.tensor(decoded["probabilities"], dtype=torch.float32))
        self._decisions.append(torch.tensor(decoded["labels"], dtype=torch.int64))
        self._targets.append(targets.to(torch.int64))

    def compute(self) -> dict[str, Any]:
        """Compute the metrics of all batches so far.

        Returns:
            Metrics by name, as JSON values.

        Raises:
            DataError: There were no batches.
        """
        if not self._targets:
            raise DataError("there are no images to evaluate")
        # torchmetrics treats values outside of 0..1, even by a rounding error, as logits.
        probabilities = torch.cat(self._probabilities).clamp(0, 1)
        return self._results(probabilities, torch.cat(self._decisions), torch.cat(self._targets))

    @abstractmethod
    def _results(
        self, probabilities: Tensor, decisions: Tensor, targets: Tensor
    ) -> dict[str, Any]: ...

    def _per_class(
        self, counts: Tensor, probabilities: Tensor, present: Tensor
    ) -> dict[str, dict[str, float | int | None]]:
        """Compute the metrics of each class.

        Args:
            counts: (C, 5), torchmetrics' true positives, false positives, true negatives, false
                negatives and support.
            probabilities: (N, C).
            present: int64 (N, C), 1 where an image is of a class.
        """
        results: dict[str, dict[str, float | int | None]] = {}
        for i, name in enumerate(self.class_names):
            tp, fp, _, fn, images = (int(value) for value in counts[i])
            average = None
            if images:
                average = _number(binary_average_precision(probabilities[:, i], present[:, i]))
            results[name] = {
                "precision": _fraction(tp, tp + fp),
                "recall": _fraction(tp, images),
                "f1": _fraction(2 * tp, 2 * tp + fp + fn),
                "average_precision": average,
                "images": images,
            }
        return results


class SingleLabelMetrics(ClassificationMetrics):
    """Metrics of single-label classification.

    ``accuracy`` is the fraction of images whose most probable class is correct; ``top5_accuracy``
    (with six classes or more) that of images whose class is among the five most probable.
    ``calibration_error`` is the expected calibration error over 15 bins. ``confusion_matrix``
    has true classes as rows and predicted classes as columns, for up to 100 classes.
    """

    def _results(self, probabilities: Tensor, decisions: Tensor, targets: Tensor) -> dict[str, Any]:
        count = len(self.class_names)
        stats = multiclass_stat_scores(decisions, targets, num_classes=count, average=None)
        per_class = self._per_class(stats, probabilities, one_hot(targets, count))
        results = {
            "accuracy": _fraction(int(stats[:, 0].sum()), len(targets)),
            "macro_f1": _mean(per_class, "f1"),
            "mean_average_precision": _mean(per_class, "average_precision"),
            "calibration_error": _number(
                multiclass_calibration_error(probabilities, targets, count, n_bins=CALIBRATION_BINS)
            ),
        }
        if count > TOP_K:
            results["top5_accuracy"] = _number(
                multiclass_accuracy(probabilities, targets, count, average="micro", top_k=TOP_K)
            )
        tables: dict[str, Any] = {"per_class": per_class}
        if count <= MAX_CONFUSION_CLASSES:
            matrix = multiclass_confusion_matrix(decisions, targets, num_classes=count)
            tables["confusion_matrix"] = matrix.tolist()
        return {**results, **tables}


class MultiLabelMetrics(ClassificationMetrics):
    """Metrics of multi-label classification.

    ``mean_average_precision`` is the mean over the classes that have images, 0 if there are none;
    ``macro_f1`` the mean of the F1 of each class, ``micro_f1`` the F1 over all decisions;
    ``exact_match`` the fraction of images whose labels are all correct.
    """

    def _results(self, probabilities: Tensor, decisions: Tensor, targets: Tensor) -> dict[str, Any]:
        count = len(self.class_names)
        # torchmetrics' validation rejects a single class, and its sums drop that dimension.
        stats = multilabel_stat_scores(
            decisions, targets, num_labels=count, average=None, validate_args=False
        ).view(count, -1)
        exact = multilabel_exact_match(decisions, targets, count, validate_args=False)
        per_class = self._per_class(stats, probabilities, targets)
        tp, fp, _, fn, _ = (int(value) for value in stats.sum(0))
        return {
            "mean_average_precision": _mean(per_class, "average_precision") or 0.0,
            "macro_f1": _mean(per_class, "f1"),
            "micro_f1": _fraction(2 * tp, 2 * tp + fp + fn),
            "exact_match": _number(exact),
            "per_class": per_class,
        }


def _fraction(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _number(value: Tensor) -> float | None:
    """Round a float32 fraction to its significant digits; return ``None`` if it is not finite."""
    number = float(value)
    # Sums of float32 may end just above 1.
    return min(round(number, 7), 1.0) if math.isfinite(number) else None


def _mean(per_class: dict[str, dict[str, float | int | None]], name: str) -> float | None:
    values = [v for results in per_class.values() if (v := results[name]) is not None]
    return float(np.mean(values)) if values else None
