"""Quality of a classifier over a whole set, by torchmetrics.

Whatever cannot be known, such as the recall of a label that no image has, is ``None``; means over
labels leave it out.
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

LARGEST_TABLE = 100  # labels; the confusion matrix of more would fill reports and model cards
TOP = 5
CALIBRATION_BINS = 15


class ClassificationMetrics(ABC):
    """Keeps what was predicted and computes all results at the end, in one pass.

    The results depend on the images alone, not on how they came in batches.

    Args:
        labels: Label names.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._probabilities: list[Tensor] = []
        self._decisions: list[Tensor] = []
        self._targets: list[Tensor] = []

    def update(self, decoded: Arrays, targets: Tensor) -> None:
        """Take one batch in.

        Args:
            decoded: ``probabilities``, float (N, C), and ``labels``, int64 (N,) or (N, C).
            targets: What ``Classification.collate`` made, on the CPU.
        """
        self._probabilities.append(torch.tensor(decoded["probabilities"], dtype=torch.float32))
        self._decisions.append(torch.tensor(decoded["labels"], dtype=torch.int64))
        self._targets.append(targets.to(torch.int64))

    def compute(self) -> dict[str, Any]:
        """Give all results so far, as JSON values.

        Returns:
            Results by name.

        Raises:
            DataError: No batch was taken in.
        """
        if not self._targets:
            raise DataError("there are no images to measure")
        # torchmetrics takes values that a rounding error put outside of 0..1 for logits.
        probabilities = torch.cat(self._probabilities).clamp(0, 1)
        return self._results(probabilities, torch.cat(self._decisions), torch.cat(self._targets))

    @abstractmethod
    def _results(
        self, probabilities: Tensor, decisions: Tensor, targets: Tensor
    ) -> dict[str, Any]: ...

    def _per_label(
        self, counts: Tensor, probabilities: Tensor, present: Tensor
    ) -> dict[str, dict[str, float | int | None]]:
        """Compute the results of each label.

        Args:
            counts: (C, 5), torchmetrics' true positives, false positives, true negatives, false
                negatives and images that have the label.
            probabilities: (N, C).
            present: int64 (N, C), 1 where an image has a label.
        """
        results: dict[str, dict[str, float | int | None]] = {}
        for i, name in enumerate(self.labels):
            right, wrong, _, missed, images = (int(value) for value in counts[i])
            average = None
            if images:
                average = _number(binary_average_precision(probabilities[:, i], present[:, i]))
            results[name] = {
                "precision": _fraction(right, right + wrong),
                "recall": _fraction(right, images),
                "f1": _fraction(2 * right, 2 * right + wrong + missed),
                "average_precision": average,
                "images": images,
            }
        return results


class SingleLabelMetrics(ClassificationMetrics):
    """Results where each image has one label.

    ``accuracy`` is the share of images whose most probable label is right; ``top5_accuracy``
    (only with six labels or more) that of images whose label is among the five most probable.
    ``calibration_error`` is the expected difference between the probability of the predicted label
    and the share of right predictions, in 15 bins. ``confusion_matrix`` counts images by true
    label (rows) and predicted label (columns), for up to 100 labels.
    """

    def _results(self, probabilities: Tensor, decisions: Tensor, targets: Tensor) -> dict[str, Any]:
        count = len(self.labels)
        stats = multiclass_stat_scores(decisions, targets, num_classes=count, average=None)
        per_label = self._per_label(stats, probabilities, one_hot(targets, count))
        results = {
            "accuracy": _fraction(int(stats[:, 0].sum()), len(targets)),
            "macro_f1": _mean(per_label, "f1"),
            "mean_average_precision": _mean(per_label, "average_precision"),
            "calibration_error": _number(
                multiclass_calibration_error(probabilities, targets, count, n_bins=CALIBRATION_BINS)
            ),
        }
        if count > TOP:
            results["top5_accuracy"] = _number(
                multiclass_accuracy(probabilities, targets, count, average="micro", top_k=TOP)
            )
        tables: dict[str, Any] = {"per_label": per_label}
        if count <= LARGEST_TABLE:
            matrix = multiclass_confusion_matrix(decisions, targets, num_classes=count)
            tables["confusion_matrix"] = matrix.tolist()
        return {**results, **tables}


class MultiLabelMetrics(ClassificationMetrics):
    """Results where each image has any number of labels.

    ``mean_average_precision`` is the mean over the labels that some image has, 0 if there are
    none; ``macro_f1`` the mean over labels of their F1, ``micro_f1`` the F1 of all decisions
    together; ``exact_match`` the share of images all of whose labels are right.
    """

    def _results(self, probabilities: Tensor, decisions: Tensor, targets: Tensor) -> dict[str, Any]:
        count = len(self.labels)
        # torchmetrics' validation refuses data with one label, and its sums drop that dimension.
        stats = multilabel_stat_scores(
            decisions, targets, num_labels=count, average=None, validate_args=False
        ).view(count, -1)
        exact = multilabel_exact_match(decisions, targets, count, validate_args=False)
        per_label = self._per_label(stats, probabilities, targets)
        right, wrong, _, missed, _ = (int(value) for value in stats.sum(0))
        return {
            "mean_average_precision": _mean(per_label, "average_precision") or 0.0,
            "macro_f1": _mean(per_label, "f1"),
            "micro_f1": _fraction(2 * right, 2 * right + wrong + missed),
            "exact_match": _number(exact),
            "per_label": per_label,
        }


def _fraction(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _number(value: Tensor) -> float | None:
    """Give a share in float32 with the digits it really has, or ``None`` if it is not finite."""
    number = float(value)
    # Sums of float32 may end just above 1.
    return min(round(number, 7), 1.0) if math.isfinite(number) else None


def _mean(per_label: dict[str, dict[str, float | int | None]], name: str) -> float | None:
    values = [v for results in per_label.values() if (v := results[name]) is not None]
    return float(np.mean(values)) if values else None
