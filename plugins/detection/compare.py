"""Compare the detections of an exported file with PyTorch's.

Two runtimes round differently, and a detector applies thresholds: on the score, on the number of
detections, on the overlap. Therefore detections are matched by class and location, not by position,
and those missing on one side are divided: at a threshold they are tolerated, otherwise they are
mismatches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.plugins.detection.models.selection import EMPTY, Limits
from visiongraft.task import Arrays, Disagreement

NEAR = 1e-3  # of a threshold, for scores and overlaps
PER_PIXEL = 1e-3  # difference that a pixel counts for in small images: a tenth of one is 1e-4
PIXELS = 0.5  # farther apart, two boxes are not the same
SIMILAR = 0.5  # overlap from which two boxes may be alternatives out of one group of candidates
MAX_ALTERNATIVES = 0.1  # fraction of an image's detections
MAX_LAST = 0.5  # fraction that may compete for the last slots, if all outputs are nearly the same


@dataclass(frozen=True)
class Side:
    """The detections of one image on one side.

    Attributes:
        boxes: (n, 4) in pixels.
        scores: (n,).
        labels: (n,).
        full: Whether all slots are taken, so that weaker detections were dropped.
    """

    boxes: NDArray[Any]
    scores: NDArray[Any]
    labels: NDArray[Any]
    full: bool


def compare_detections(
    reference: Arrays, candidate: Arrays, limits: Limits, noise: float = 1.0
) -> Disagreement:
    """Match the detections of two sides, and judge those left over.

    Detections match if they have the same class and no corner is more than half a pixel off. The
    difference is the largest of their corners' distances, relative to the farthest corner in the
    image or 1e-3 per pixel, whichever is less, and of their scores' distances, divided by
    ``noise``. A detection without a match is tolerated if

    - its score is within 1e-3 of the score threshold;
    - the other side has no free slot, and its score is at most 1e-3 above the weakest there; at
      most half of an image's detections;
    - a better one on the other side overlaps it within 1e-3 of the threshold of suppression;
    - the other side kept another box of the same class in its place, with a score within 1e-3 and
      an overlap of at least one half; at most a tenth of an image's detections, or shifted boxes
      would be tolerated too;
    - it is suppressed by a box of the other side that exists only for one of these reasons, or it
      is not suppressed only because one is missing for them.

    Every other one is a mismatch. Empty slots must be empty on both sides.

    Args:
        reference: PyTorch's ``boxes``, ``scores``, ``labels`` and ``count``.
        candidate: The exported file's.
        limits: The thresholds of both sides.
        noise: See ``heads.Detector``.

    Returns:
        The disagreement; infinite if names or shapes differ, or results are not well-formed.

    Examples:
        >>> import numpy as np
        >>> some = {
        ...     "boxes": np.array([[[0.0, 0.0, 50.0, 50.0]]]),
        ...     "scores": np.array([[0.9]]),
        ...     "labels": np.array([[0]]),
        ...     "count": np.array([1]),
        ... }
        >>> compare_detections(some, {**some, "labels": np.array([[1]])}, Limits(0.05, 0.5, 1))
        Disagreement(difference=0.0, mismatches=1)
    """
    if reference.keys() != candidate.keys() or any(
        reference[name].shape != candidate[name].shape for name in reference
    ):
        return Disagreement(math.inf, 0)
    difference, mismatches = 0.0, 0
    for image in range(len(reference["count"])):
        one, other = _side(reference, image), _side(candidate, image)
        if one is None or other is None:
            return Disagreement(math.inf, 0)
        compared = compare_image(one, other, limits, noise)
        difference = max(difference, compared.difference)
        mismatches += compared.mismatches
    return Disagreement(round(difference, 12), mismatches)


def rescale_boxes(decoded: Arrays, size: tuple[int, int], target_size: tuple[int, int]) -> Arrays:
    """Convert decoded boxes for images of one size to another size of the same images.

    Args:
        decoded: Decoded detections.
        size: Height and width of the images that the boxes belong to.
        target_size: Height and width to convert them to.
    """
    factors = np.divide(target_size, size, dtype=np.float32)
    return {**decoded, "boxes": decoded["boxes"] * np.tile(factors[::-1], 2)}


def compare_image(one: Side, other: Side, limits: Limits, noise: float = 1.0) -> Disagreement:
    """Compare the detections of one image; see ``compare_detections``."""
    difference = 0.0
    extent = max(float(np.abs(one.boxes).max()) if one.boxes.size else 0.0, 1.0)
    left, right = set(range(len(one.scores))), set(range(len(other.scores)))
    for i, j in _same(one, other):
        left.discard(i)
        right.discard(j)
        pixels = float(np.abs(one.boxes[i] - other.boxes[j]).max())
        corner = min(pixels / extent, pixels * PER_PIXEL)
        score = abs(float(one.scores[i] - other.scores[j])) / noise
        difference = max(difference, corner, score)
    tolerated = _tolerated(one, other, left, right, limits)
    here = left - {i for side, i in tolerated if side == "one"}
    there = right - {i for side, i in tolerated if side == "other"}
    # A class that changed, or a box that moved, is missing on both sides, and is one mismatch.
    return Disagreement(difference, max(len(here), len(there)))


def _side(arrays: Arrays, image: int) -> Side | None:
    """Return the detections of one image, or ``None`` if they are not well-formed."""
    boxes, scores = arrays["boxes"][image].astype(np.float64), arrays["scores"][image]
    labels, count = arrays["labels"][image], int(arrays["count"][image])
    slots = len(scores)
    if not 0 <= count <= slots or not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        return None
    empty = (scores[count:] == 0).all() and (boxes[count:] == 0).all()
    if not empty or (labels[count:] != EMPTY).any() or (labels[:count] < 0).any():
        return None
    ordered = (np.diff(scores[:count]) <= 0).all()
    if not ordered or (scores[:count] <= 0).any():
        return None
    kept = slice(count)
    return Side(boxes[kept], scores[kept].astype(np.float64), labels[kept], count == slots)


def _same(one: Side, other: Side) -> list[tuple[int, int]]:
    """Pair detections of one class that are at most half a pixel apart, the nearest first."""
    if not len(one.scores) or not len(other.scores):
        return []
    apart = np.abs(one.boxes[:, None] - other.boxes[None]).max(2)
    apart[one.labels[:, None] != other.labels[None]] = math.inf
    rows, columns = np.nonzero(apart <= PIXELS)
    # Of boxes at the same location, those with similar scores belong together.
    scores = np.abs(one.scores[rows] - other.scores[columns])
    order = np.lexsort((apart[rows, columns], scores.round(6)))
    pairs, used_rows, used_columns = [], set(), set()
    for position in order:
        i, j = int(rows[position]), int(columns[position])
        if i not in used_rows and j not in used_columns:
            pairs.append((i, j))
            used_rows.add(i)
            used_columns.add(j)
    return pairs


def _tolerated(
    one: Side, other: Side, left: set[int], right: set[int], limits: Limits
) -> set[tuple[str, int]]:
    """Find the detections whose absence on the other side a threshold explains."""
    sides = {"one": (one, other, left), "other": (other, one, right)}
    tolerated: set[tuple[str, int]] = set()
    for name, (own, theirs, missing) in sides.items():
        tolerated |= {(name, i) for i in missing if _at_threshold(own, theirs, i, limits)}
        last = {(name, i) for i in missing if _at_last_slot(own, theirs, i)}
        tolerated |= last if len(last) <= MAX_LAST * len(own.scores) else set()
    tolerated |= _alternatives(one, other, left, right, tolerated)
    while True:  # consequences, and their consequences
        more = set()
        for name, (own, theirs, missing) in sides.items():
            opposite = "other" if name == "one" else "one"
            reasons = [i for side, i in tolerated if side == opposite]
            for i in missing:
                if (name, i) not in tolerated and _suppressed(own, theirs, i, reasons, limits):
                    more.add((name, i))
        if not more:
            return tolerated
        tolerated |= more


def _at_threshold(own: Side, theirs: Side, i: int, limits: Limits) -> bool:
    score = own.scores[i]
    if score <= limits.score + NEAR:
        return True
    better = (theirs.labels == own.labels[i]) & (theirs.scores >= score - NEAR)
    overlaps = _overlaps(own.boxes[i], theirs.boxes[better])
    return bool((np.abs(overlaps - limits.iou) <= NEAR).any())


def _at_last_slot(own: Side, theirs: Side, i: int) -> bool:
    return theirs.full and bool(own.scores[i] <= theirs.scores.min() + NEAR)


def _alternatives(
    one: Side, other: Side, left: set[int], right: set[int], known: set[tuple[str, int]]
) -> set[tuple[str, int]]:
    """Pair leftover detections with what the other side may have kept instead."""
    pairs: list[tuple[int, int]] = []
    free = {j for j in right if ("other", j) not in known}
    for i in sorted(left):
        if ("one", i) in known:
            continue
        for j in sorted(free):
            near = abs(one.scores[i] - other.scores[j]) <= NEAR
            if not near or one.labels[i] != other.labels[j]:
                continue
            if _overlaps(one.boxes[i], other.boxes[j : j + 1])[0] >= SIMILAR:
                pairs.append((i, j))
                free.discard(j)
                break
    if len(pairs) > MAX_ALTERNATIVES * len(one.scores):
        return set()
    return {("one", i) for i, _ in pairs} | {("other", j) for _, j in pairs}


def _suppressed(own: Side, theirs: Side, i: int, reasons: list[int], limits: Limits) -> bool:
    """Check whether a tolerated detection of the other side suppresses this one there."""
    if not reasons:
        return False
    extra = np.array(reasons)
    suits = (theirs.labels[extra] == own.labels[i]) & (theirs.scores[extra] >= own.scores[i] - NEAR)
    overlaps = _overlaps(own.boxes[i], theirs.boxes[extra[suits]])
    return bool((overlaps > limits.iou - NEAR).any())


def _overlaps(box: NDArray[Any], boxes: NDArray[Any]) -> NDArray[Any]:
    """Compute intersection over union of one box with others."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = (high - low).clip(min=0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    result: NDArray[Any] = shared / np.maximum(areas - shared, 1e-12)
    return result
