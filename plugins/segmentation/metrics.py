"""Quality of masks over a whole set, by one confusion matrix.

What cannot be known, such as the IoU of a class that is neither there nor predicted, is ``None``;
means over classes leave it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.errors import DataError
from visiongraft.task import Arrays

LARGEST_TABLE = 50  # classes; the confusion matrix of more would fill reports and model cards


class SegmentationMetrics:
    """Counts pixels by true and predicted class.

    ``mean_iou``, the headline, is the mean over classes of the intersection of true and predicted
    pixels, divided by their union; ``mean_dice`` that of twice the intersection, divided by their
    sum; ``pixel_accuracy`` the share of pixels that are right. All pixels of the set count alike,
    whatever image they are in. ``confusion_matrix`` has true classes as rows, for up to 50
    classes. Of multi-label masks each class is counted by itself, presence against absence.

    Args:
        labels: Class names.
        ignored: Target value of pixels that do not count.
        several: Whether masks are multi-label.
    """

    def __init__(self, labels: Sequence[str], ignored: int, several: bool) -> None:
        self.labels, self.ignored, self.several = tuple(labels), ignored, several
        self.images = 0
        # Of multi-label masks one table each; else one for all classes.
        tables, side = (len(labels), 2) if several else (1, len(labels))
        self.counts = np.zeros((tables, side, side), np.int64)

    def update(self, decoded: Arrays, targets: Any) -> None:
        """Take one batch in.

        Args:
            decoded: ``labels``, whole numbers (N, H, W), of multi-label masks (N, C, H, W).
            targets: Masks of the same shape, as a tensor or one for each image.

        Raises:
            DataError: A mask has another size than its image.
        """
        for predicted, target in zip(decoded["labels"], targets, strict=True):
            mask = np.asarray(target)
            if mask.shape != predicted.shape:
                raise DataError(
                    f"a mask of {mask.shape[-2]}x{mask.shape[-1]} pixels belongs to an image of "
                    f"{predicted.shape[-2]}x{predicted.shape[-1]}"
                )
            self.images += 1
            pairs = zip(mask, predicted, strict=True) if self.several else [(mask, predicted)]
            for table, (true, found) in zip(self.counts, pairs, strict=True):
                table += count_pairs(true, found, len(table), self.ignored)

    def compute(self) -> dict[str, Any]:
        """Give all results so far, as JSON values.

        Returns:
            Results by name.

        Raises:
            DataError: No batch was taken in.
        """
        if not self.images:
            raise DataError("there are no images to evaluate")
        per_class = dict(zip(self.labels, self._per_class(), strict=True))
        right = int(np.trace(self.counts, axis1=1, axis2=2).sum())
        results: dict[str, Any] = {
            "mean_iou": _mean(row["iou"] for row in per_class.values()),
            "mean_dice": _mean(row["dice"] for row in per_class.values()),
            "pixel_accuracy": _fraction(right, int(self.counts.sum())),
            "per_class": per_class,
        }
        if not self.several and len(self.labels) <= LARGEST_TABLE:
            results["confusion_matrix"] = self.counts[0].tolist()
        return results

    def _per_class(self) -> list[dict[str, Any]]:
        if self.several:
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


def count_pairs(
    true: NDArray[Any], predicted: NDArray[Any], classes: int, ignored: int
) -> NDArray[np.int64]:
    """Count how often each true class meets each predicted one.

    Args:
        true: Class ids of any shape.
        predicted: Class ids, the same shape.
        classes: Number of classes.
        ignored: True value of pixels that do not count.

    Returns:
        (classes, classes), true classes as rows.

    Examples:
        >>> count_pairs(np.array([0, 1, 1, 255]), np.array([0, 1, 0, 1]), 2, 255)
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
    """Average what is known; where nothing is, nothing was found."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else 0.0
