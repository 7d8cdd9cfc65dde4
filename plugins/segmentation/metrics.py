"""Segmentation metrics over a whole dataset, from one confusion matrix.

Undefined values, such as the IoU of a class that is neither present nor predicted, are ``None``
and are left out of averages over classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.errors import DataError
from visiongraft.task import Arrays

MAX_CONFUSION_CLASSES = 50  # a larger confusion matrix would fill reports and model cards


class SegmentationMetrics:
    """Accumulates a confusion matrix of pixels.

    ``mean_iou``, the headline metric, is the intersection over union of each class, averaged over
    the classes; ``mean_dice`` the averaged Dice coefficient; ``pixel_accuracy`` the fraction of
    correct pixels. The pixels of all images are pooled. ``confusion_matrix`` has true classes as
    rows, for up to 50 classes. For multi-label masks each class is a binary problem of its own.

    Args:
        class_names: Class names.
        ignored: Target value of ignored pixels.
        multi_label: Whether masks are multi-label.
    """

    def __init__(self, class_names: Sequence[str], ignored: int, multi_label: bool) -> None:
        self.class_names, self.ignored = tuple(class_names), ignored
        self.multi_label = multi_label
        self.images = 0
        # One binary confusion matrix per class, or one over all classes.
        classes = len(self.class_names)
        tables, side = (classes, 2) if multi_label else (1, classes)
        self.counts = np.zeros((tables, side, side), np.int64)

    def update(self, decoded: Arrays, targets: Any) -> None:
        """Add one batch.

        Args:
            decoded: ``labels``, integers (N, H, W), or (N, C, H, W) for multi-label masks.
            targets: Masks of the same shape, as one tensor or one per image.

        Raises:
            DataError: The size of a mask differs from that of its image.
        """
        for predicted, target in zip(decoded["labels"], targets, strict=True):
            mask = np.asarray(target)
            if mask.shape != predicted.shape:
                raise DataError(
                    f"a mask has {mask.shape[-2]}x{mask.shape[-1]} pixels, but its image has "
                    f"{predicted.shape[-2]}x{predicted.shape[-1]}"
                )
            self.images += 1
            pairs = zip(mask, predicted, strict=True) if self.multi_label else [(mask, predicted)]
            for table, (true, found) in zip(self.counts, pairs, strict=True):
                table += confusion_counts(true, found, len(table), self.ignored)

    def compute(self) -> dict[str, Any]:
        """Compute the metrics of all batches so far.

        Returns:
            Metrics by name, as JSON values.

        Raises:
            DataError: There were no batches.
        """
        if not self.images:
            raise DataError("there are no images to evaluate")
        per_class = dict(zip(self.class_names, self._per_class(), strict=True))
        correct = int(np.trace(self.counts, axis1=1, axis2=2).sum())
        results: dict[str, Any] = {
            "mean_iou": _mean(row["iou"] for row in per_class.values()),
            "mean_dice": _mean(row["dice"] for row in per_class.values()),
            "pixel_accuracy": _fraction(correct, int(self.counts.sum())),
            "per_class": per_class,
        }
        if not self.multi_label and len(self.class_names) <= MAX_CONFUSION_CLASSES:
            results["confusion_matrix"] = self.counts[0].tolist()
        return results

    def _per_class(self) -> list[dict[str, Any]]:
        if self.multi_label:
            both, true = self.counts[:, 1, 1], self.counts[:, 1].sum(1)
            predicted = self.counts[:, :, 1].sum(1)
        else:
            table = self.counts[0]
            both, true, predicted = np.diag(table), table.sum(1), table.sum(0)
        return [
            {
                "iou": _fraction(b, t + p - b),
                "dice": _fraction(2 * b, t + p),
                "recall": _fraction(b, t),
                "precision": _fraction(b, p),
                "pixels": t,
            }
            for b, t, p in zip(both.tolist(), true.tolist(), predicted.tolist(), strict=True)
        ]


def confusion_counts(
    true: NDArray[Any], predicted: NDArray[Any], classes: int, ignored: int
) -> NDArray[np.int64]:
    """Compute a confusion matrix.

    Args:
        true: Class ids of any shape.
        predicted: Class ids, the same shape.
        classes: Number of classes.
        ignored: True value of ignored pixels.

    Returns:
        (classes, classes), true classes as rows.

    Examples:
        >>> confusion_counts(np.array([0, 1, 1, 255]), np.array([0, 1, 0, 1]), 2, 255)
        array([[1, 0],
               [1, 1]])
    """
    counted = true != ignored
    pairs = true[counted].astype(np.int64) * classes + predicted[counted]
    table: NDArray[np.int64] = np.bincount(pairs, minlength=classes * classes)
    return table.reshape(classes, classes)


def _fraction(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Any) -> float:
    """Average the defined values; 0 if there are none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else 0.0
