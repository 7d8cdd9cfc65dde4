"""Verification: is it one identity? Accuracy by the LFW protocol, and the whole curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]

FALSE_ACCEPTS = (1e-2, 1e-3, 1e-4)
CURVE_POINTS = 200


@dataclass(frozen=True)
class Verified:
    """Accuracy over folds.

    Attributes:
        accuracy: Mean over the folds of the share of right decisions.
        standard_error: Of that mean, from the spread of the folds; 0 with a single fold.
        folds: Accuracy of each fold.
    """

    accuracy: float
    standard_error: float
    folds: tuple[float, ...]


def best_threshold(similarities: Floats, same: Marks) -> float:
    """Find the threshold by which most pairs are decided rightly.

    Pairs at or above the threshold count as one identity. Of thresholds that are equally good, the
    one in the middle of the widest gap between similarities is taken, then the lowest.

    Args:
        similarities: (P,) similarity of each pair, P at least 1.
        same: (P,) whether it shows one identity.

    Returns:
        The threshold.

    Examples:
        >>> best_threshold(np.array([0.1, 0.3, 0.7, 0.9]), np.array([False, False, True, True]))
        0.5
    """
    order = np.argsort(similarities, kind="stable")
    values, marks = similarities[order], same[order]
    # Right decisions if the k lowest pairs are refused, for each k.
    refused = np.concatenate([[0], np.cumsum(~marks)])
    accepted = np.concatenate([[0], np.cumsum(marks)])
    right = refused + (accepted[-1] - accepted)
    steps = np.diff(values)
    gaps = np.concatenate([[0.0], steps, [0.0]])
    possible = np.concatenate([[True], steps > 0, [True]])
    right = np.where(possible, right, -1)
    best = np.flatnonzero(right == right.max())
    cut = int(best[np.argmax(gaps[best])])
    if cut == 0:
        return float(values[0])
    if cut == len(values):
        return float(np.nextafter(values[-1], np.inf))
    return float((values[cut - 1] + values[cut]) / 2)


def verify_in_folds(similarities: Floats, same: Marks, folds: NDArray[np.int64]) -> Verified:
    """Measure verification as on Labeled Faces in the Wild (Huang et al., 2007).

    For each fold the threshold is chosen on all other folds, and accuracy is measured on the fold
    itself. A single fold has no others: its threshold is chosen on itself.

    Args:
        similarities: (P,) similarity of each pair, P at least 1.
        same: (P,) whether it shows one identity.
        folds: (P,) fold of each pair.

    Returns:
        Mean accuracy and its standard error, as LFW computes it: the deviation of the folds (n - 1)
        over the root of their number.
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
    return Verified(float(np.mean(accuracies)), float(error), tuple(accuracies))


@dataclass(frozen=True)
class Curve:
    """Shares of accepted pairs for falling thresholds.

    Attributes:
        thresholds: (T,) thresholds, falling; the first accepts nothing.
        far: (T,) false accept rate: share of pairs of two identities that are accepted.
        tar: (T,) true accept rate: share of pairs of one identity that are accepted.
        impostors: Number of pairs of two identities.
    """

    thresholds: Floats
    far: Floats
    tar: Floats
    impostors: int

    @classmethod
    def of(cls, similarities: Floats, same: Marks) -> Curve:
        """Compute the curve (ROC) of pairs of both kinds."""
        order = np.argsort(-similarities, kind="stable")
        values, marks = similarities[order], same[order]
        last = np.concatenate([np.flatnonzero(np.diff(values)), [len(values) - 1]])  # of equal ones
        true, false = np.cumsum(marks)[last], np.cumsum(~marks)[last]
        return cls(
            np.concatenate([[np.inf], values[last]]),
            np.concatenate([[0.0], false / false[-1]]),
            np.concatenate([[0.0], true / true[-1]]),
            int(false[-1]),
        )

    def area(self) -> float:
        """Area under the curve."""
        return float(np.trapezoid(self.tar, self.far))

    def equal_error_rate(self) -> float:
        """Rate at which as many are wrongly accepted as wrongly refused, between two points linear."""
        missed = 1 - self.tar
        after = int(np.argmax(self.far >= missed))
        before = max(after - 1, 0)
        rise = (self.far[after] - missed[after]) - (self.far[before] - missed[before])
        fraction = 0.0 if rise == 0 else -(self.far[before] - missed[before]) / rise
        return float(self.far[before] + fraction * (self.far[after] - self.far[before]))

    def at_far(self, rate: float) -> tuple[float, float] | None:
        """Find how many are accepted rightly if at most this share may be accepted wrongly.

        Args:
            rate: False accept rate, above 0.

        Returns:
            True accept rate and threshold; ``None`` if there are too few pairs of two identities
            to measure such a rate.
        """
        if self.impostors * rate < 1 - 1e-9:
            return None
        position = int(np.flatnonzero(self.far <= rate + 1e-12)[-1])
        return float(self.tar[position]), float(min(self.thresholds[position], 1.0))

    def to_json(self) -> dict[str, list[float]]:
        """Give at most 200 points of the curve, close where the false accept rate is low."""
        rates = np.geomspace(1 / max(self.impostors, 1), 1, CURVE_POINTS - 1)
        chosen = np.unique([0, *(np.searchsorted(self.far, rates, side="right") - 1)])
        return {
            "far": [round(float(x), 7) for x in self.far[chosen]],
            "tar": [round(float(x), 7) for x in self.tar[chosen]],
        }


def at_rates(curve: Curve) -> dict[str, Any]:
    """Give true accept rate and threshold at the usual false accept rates, by name."""
    results: dict[str, Any] = {}
    for rate in FALSE_ACCEPTS:
        found = curve.at_far(rate)
        results[f"tar_at_far_{rate:g}"] = None if found is None else found[0]
        results[f"threshold_at_far_{rate:g}"] = None if found is None else found[1]
    return results
