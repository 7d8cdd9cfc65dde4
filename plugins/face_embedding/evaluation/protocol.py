"""Verification (do two images show the same identity?): accuracy as on LFW, and the ROC curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]

FALSE_ACCEPT_RATES = (1e-2, 1e-3, 1e-4)
CURVE_POINTS = 200


@dataclass(frozen=True)
class FoldAccuracy:
    """Accuracy over folds.

    Attributes:
        accuracy: Mean accuracy of the folds.
        standard_error: Standard error of that mean; 0 for a single fold.
    """

    accuracy: float
    standard_error: float


def best_threshold(similarities: Floats, same: Marks) -> float:
    """Find the threshold with the highest accuracy.

    Pairs at or above the threshold are accepted as one identity. Of equally accurate thresholds,
    the one in the middle of the widest gap between similarities is chosen, then the lowest.

    Args:
        similarities: (P,) similarity of each pair, P at least 1.
        same: (P,) whether the pair shows one identity.

    Returns:
        The threshold.

    Examples:
        >>> best_threshold(np.array([0.1, 0.3, 0.7, 0.9]), np.array([False, False, True, True]))
        0.5
    """
    order = np.argsort(similarities, kind="stable")
    values, marks = similarities[order], same[order]
    # Number of correct decisions if the k lowest pairs are rejected, for each k.
    impostors = np.concatenate([[0], np.cumsum(~marks)])
    genuine = np.concatenate([[0], np.cumsum(marks)])
    correct = impostors + (genuine[-1] - genuine)
    steps = np.diff(values)
    gaps = np.concatenate([[0.0], steps, [0.0]])
    separable = np.concatenate([[True], steps > 0, [True]])
    correct = np.where(separable, correct, -1)
    best = np.flatnonzero(correct == correct.max())
    cut = int(best[np.argmax(gaps[best])])
    if cut == 0:
        return float(values[0])
    if cut == len(values):
        return float(np.nextafter(values[-1], np.inf))
    return between(values[cut - 1], values[cut])


def between(rejected: float, accepted: float) -> float:
    """Return a threshold that rejects one similarity and accepts the next higher one.

    It is in the middle, so that another runtime's rounding changes no decision; of two neighboring
    numbers the middle may be rounded to the lower one, which must not be accepted.
    """
    middle = (rejected + accepted) / 2
    return float(middle if middle > rejected else accepted)


def verify_in_folds(similarities: Floats, same: Marks, folds: NDArray[np.int64]) -> FoldAccuracy:
    """Measure verification as on Labeled Faces in the Wild (Huang et al., 2007).

    For each fold, the threshold is chosen on all other folds, and the accuracy is measured on the
    fold itself. The threshold of a single fold is chosen on that fold.

    Args:
        similarities: (P,) similarity of each pair, P at least 1.
        same: (P,) whether the pair shows one identity.
        folds: (P,) fold of each pair.

    Returns:
        The mean accuracy and its standard error as LFW defines it: the standard deviation of the
        folds (n - 1) divided by the square root of their number.
    """
    names = np.unique(folds)
    accuracies = []
    for fold in names:
        inside = folds == fold
        others = ~inside if len(names) > 1 else inside
        threshold = best_threshold(similarities[others], same[others])
        accuracies.append(float(((similarities[inside] >= threshold) == same[inside]).mean()))
    spread = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else 0.0
    error = spread / np.sqrt(len(accuracies))
    return FoldAccuracy(float(np.mean(accuracies)), float(error))


@dataclass(frozen=True)
class RocCurve:
    """False and true accept rates for descending thresholds.

    Attributes:
        thresholds: (T,) thresholds, descending; the first accepts no pair.
        far: (T,) false accept rate: fraction of the pairs of two identities that are accepted.
        tar: (T,) true accept rate: fraction of the pairs of one identity that are accepted.
        impostors: Number of pairs of two identities.
    """

    thresholds: Floats
    far: Floats
    tar: Floats
    impostors: int

    @classmethod
    def of(cls, similarities: Floats, same: Marks) -> RocCurve:
        """Compute the ROC curve; there must be pairs of one identity and of two."""
        order = np.argsort(-similarities, kind="stable")
        values, marks = similarities[order], same[order]
        last = np.concatenate(
            [np.flatnonzero(np.diff(values)), [len(values) - 1]]
        )  # of equal values
        true, false = np.cumsum(marks)[last], np.cumsum(~marks)[last]
        return cls(
            np.concatenate([[np.inf], values[last]]),
            np.concatenate([[0.0], false / false[-1]]),
            np.concatenate([[0.0], true / true[-1]]),
            int(false[-1]),
        )

    def area(self) -> float:
        """Return the area under the curve."""
        return float(np.trapezoid(self.tar, self.far))

    def equal_error_rate(self) -> float:
        """Return the rate where false accepts equal false rejects, by linear interpolation."""
        frr = 1 - self.tar
        after = int(np.argmax(self.far >= frr))
        before = max(after - 1, 0)
        rise = (self.far[after] - frr[after]) - (self.far[before] - frr[before])
        fraction = 0.0 if rise == 0 else -(self.far[before] - frr[before]) / rise
        return float(self.far[before] + fraction * (self.far[after] - self.far[before]))

    def at_far(self, rate: float) -> tuple[float, float] | None:
        """Return the true accept rate at a given maximal false accept rate.

        Args:
            rate: False accept rate, above 0.

        Returns:
            The true accept rate and the threshold; ``None`` if there are too few pairs of two
            identities to measure such a rate, or if no threshold up to 1 has it, because pairs of
            two identities have the highest similarity possible.
        """
        if self.impostors * rate < 1 - 1e-9:
            return None
        position = int(np.flatnonzero(self.far <= rate + 1e-12)[-1])
        below = self.thresholds[position + 1 :]
        if position == 0:
            threshold = float(np.nextafter(below[0], np.inf))
        else:
            lowest = float(self.thresholds[position])
            threshold = between(float(below[0]), lowest) if len(below) else lowest
        return (float(self.tar[position]), threshold) if threshold <= 1 else None

    def to_json(self) -> dict[str, list[float]]:
        """Return at most 200 points of the curve, denser at low false accept rates."""
        rates = np.geomspace(1 / max(self.impostors, 1), 1, CURVE_POINTS - 1)
        chosen = np.unique([0, *(np.searchsorted(self.far, rates, side="right") - 1)])
        return {
            "far": [round(float(x), 7) for x in self.far[chosen]],
            "tar": [round(float(x), 7) for x in self.tar[chosen]],
        }


def accept_rates(curve: RocCurve) -> dict[str, Any]:
    """Return the true accept rates and thresholds at the usual false accept rates, by name."""
    results: dict[str, Any] = {}
    for rate in FALSE_ACCEPT_RATES:
        found = curve.at_far(rate)
        results[f"tar_at_far_{rate:g}"] = None if found is None else found[0]
        results[f"threshold_at_far_{rate:g}"] = None if found is None else found[1]
    return results
