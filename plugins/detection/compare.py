"""How far the detections of an exported file are from PyTorch's.

Two runtimes round differently, and a detector cuts: at a score, at a number of detections, at an
overlap. So detections are matched by label and place, not by position, and those that are missing
on one side are told apart: real faults are flips, the other side of a cut is forgiven.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.plugins.detection.models.selection import NOTHING, Limits
from visiongraft.task import Disagreement

NEAR = 1e-3  # of scores, and of an overlap
PER_PIXEL = 1e-3  # what a pixel counts in small images: a tenth of one is 1e-4
PIXELS = 0.5  # farther apart, two boxes are not the same
ALIKE = 0.5  # overlap from which two boxes may be two choices out of one crowd of candidates
FEW = 0.1  # share of an image's detections that may be such choices
MANY = 0.5  # share that may contend for the last places, where a network says the same everywhere

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Side:
    """The detections of one image on one side.

    Attributes:
        boxes: (n, 4) in pixels.
        scores: (n,).
        labels: (n,).
        full: Whether all places are taken, so that weaker detections had none left.
    """

    boxes: NDArray[Any]
    scores: NDArray[Any]
    labels: NDArray[Any]
    full: bool


@dataclass
class ImageComparison:
    """What came of one image.

    Attributes:
        difference: Of matched detections: of corners relative to the image, and of scores.
        mismatches: Detections that are missing on one side for no good reason.
        forgiven: Detections that are missing on one side of a cut.
    """

    difference: float = 0.0
    mismatches: int = 0
    forgiven: list[tuple[str, int]] = field(default_factory=list)


def compare_detections(
    reference: Arrays, candidate: Arrays, limits: Limits, noise: float = 1.0
) -> Disagreement:
    """Match the detections of two sides, and judge what is left over.

    Detections match if they have the same label and no corner is more than half a pixel off; then
    their corners count into the difference, relative to the farthest corner in the image or by a
    thousandth a pixel, whichever is less, and their scores, divided by ``noise``. A detection without a match is forgiven if

    - its score is within 1e-3 of the least score there is;
    - the other side has no place left, and its score is at most 1e-3 above the weakest there; at
      most a half of an image's detections;
    - a better one on the other side overlaps it within 1e-3 of the limit of suppression;
    - the other side chose another box of the same label in its place, with a score within 1e-3 and
      an overlap of at least one half; at most a tenth of an image's detections, or what shifts
      boxes would be forgiven too;
    - it is suppressed by a box of the other side that is there only for one of these reasons, or
      only not suppressed by one that is missing for them.

    Every other one is a flip. Empty places must be empty on both sides.

    Args:
        reference: PyTorch's ``boxes``, ``scores``, ``labels`` and ``count``.
        candidate: The exported file's.
        limits: What both sides cut at.
        noise: See ``heads.Detector``.

    Returns:
        The disagreement; infinite if names or shapes differ, or results are not well formed.

    Examples:
        >>> import numpy as np
        >>> some = {
        ...     "boxes": np.array([[[0.0, 0.0, 50.0, 50.0]]]),
        ...     "scores": np.array([[0.9]]),
        ...     "labels": np.array([[0]]),
        ...     "count": np.array([1]),
        ... }
        >>> compare_detections(some, {**some, "labels": np.array([[1]])}, Limits(0.05, 0.5, 1))
        Disagreement(difference=0.0, flips=1)
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
        verdict = compare_image(one, other, limits, noise)
        difference = max(difference, verdict.difference)
        mismatches += verdict.mismatches
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


def compare_image(one: Side, other: Side, limits: Limits, noise: float = 1.0) -> ImageComparison:
    """Compare the detections of one image; see ``compare_detections``."""
    verdict = ImageComparison()
    extent = max(float(np.abs(one.boxes).max()) if one.boxes.size else 0.0, 1.0)
    left, right = set(range(len(one.scores))), set(range(len(other.scores)))
    for i, j in _same(one, other):
        left.discard(i)
        right.discard(j)
        pixels = float(np.abs(one.boxes[i] - other.boxes[j]).max())
        apart = min(pixels / extent, pixels * PER_PIXEL)
        score = abs(float(one.scores[i] - other.scores[j])) / noise
        verdict.difference = max(verdict.difference, apart, score)
    forgiven = _forgiven(one, other, left, right, limits)
    verdict.forgiven = sorted(forgiven)
    flipped = [(left - {i for s, i in forgiven if s == "one"})]
    flipped.append(right - {i for s, i in forgiven if s == "other"})
    # A label that changed, or a box that moved, is missing on both sides, and is one flip.
    verdict.mismatches = max(len(flipped[0]), len(flipped[1]))
    return verdict


def _side(arrays: Arrays, image: int) -> Side | None:
    """Take one image out, if its results are well formed."""
    boxes, scores = arrays["boxes"][image].astype(np.float64), arrays["scores"][image]
    labels, count = arrays["labels"][image], int(arrays["count"][image])
    places = len(scores)
    if not 0 <= count <= places or not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        return None
    empty = (scores[count:] == 0).all() and (boxes[count:] == 0).all()
    if not empty or (labels[count:] != NOTHING).any() or (labels[:count] < 0).any():
        return None
    ordered = (np.diff(scores[:count]) <= 0).all()
    if not ordered or (scores[:count] <= 0).any():
        return None
    kept = slice(count)
    return Side(boxes[kept], scores[kept].astype(np.float64), labels[kept], count == places)


def _same(one: Side, other: Side) -> list[tuple[int, int]]:
    """Pair detections of one label that are at most half a pixel apart, the nearest first."""
    if not len(one.scores) or not len(other.scores):
        return []
    apart = np.abs(one.boxes[:, None] - other.boxes[None]).max(2)
    apart[one.labels[:, None] != other.labels[None]] = math.inf
    rows, columns = np.nonzero(apart <= PIXELS)
    # Of boxes at the same place, those with like scores belong together.
    scores = np.abs(one.scores[rows] - other.scores[columns])
    order = np.lexsort((apart[rows, columns], scores.round(6)))
    pairs, used_rows, used_columns = [], set(), set()
    for place in order:
        i, j = int(rows[place]), int(columns[place])
        if i not in used_rows and j not in used_columns:
            pairs.append((i, j))
            used_rows.add(i)
            used_columns.add(j)
    return pairs


def _forgiven(
    one: Side, other: Side, left: set[int], right: set[int], limits: Limits
) -> set[tuple[str, int]]:
    """Find the detections whose absence on the other side a cut explains."""
    sides = {"one": (one, other, left), "other": (other, one, right)}
    found: set[tuple[str, int]] = set()
    for name, (own, theirs, missing) in sides.items():
        found |= {(name, i) for i in missing if _at_a_cut(own, theirs, i, limits)}
        last = {(name, i) for i in missing if _at_the_end(own, theirs, i)}
        found |= last if len(last) <= MANY * len(own.scores) else set()
    found |= _choices(one, other, left, right, found)
    while True:  # consequences, and their consequences
        more = set()
        for name, (own, theirs, missing) in sides.items():
            opposite = "other" if name == "one" else "one"
            reasons = [i for side, i in found if side == opposite]
            for i in missing:
                if (name, i) not in found and _suppressed(own, theirs, i, reasons, limits):
                    more.add((name, i))
        if not more:
            return found
        found |= more


def _at_a_cut(own: Side, theirs: Side, i: int, limits: Limits) -> bool:
    score = own.scores[i]
    if score <= limits.score + NEAR:
        return True
    better = (theirs.labels == own.labels[i]) & (theirs.scores >= score - NEAR)
    overlaps = _overlaps(own.boxes[i], theirs.boxes[better])
    return bool((np.abs(overlaps - limits.iou) <= NEAR).any())


def _at_the_end(own: Side, theirs: Side, i: int) -> bool:
    return theirs.full and bool(own.scores[i] <= theirs.scores.min() + NEAR)


def _choices(
    one: Side, other: Side, left: set[int], right: set[int], known: set[tuple[str, int]]
) -> set[tuple[str, int]]:
    """Pair what is left over with what the other side may have chosen in its place."""
    pairs: list[tuple[int, int]] = []
    free = {j for j in right if ("other", j) not in known}
    for i in sorted(left):
        if ("one", i) in known:
            continue
        for j in sorted(free):
            near = abs(one.scores[i] - other.scores[j]) <= NEAR
            alike = _overlaps(one.boxes[i], other.boxes[j : j + 1])[0] >= ALIKE
            if near and alike and one.labels[i] == other.labels[j]:
                pairs.append((i, j))
                free.discard(j)
                break
    if len(pairs) > FEW * len(one.scores):
        return set()
    return {("one", i) for i, _ in pairs} | {("other", j) for _, j in pairs}


def _suppressed(own: Side, theirs: Side, i: int, reasons: list[int], limits: Limits) -> bool:
    """Say whether one of the other side's stray detections suppresses this one there."""
    if not reasons:
        return False
    strays = np.array(reasons)
    fits = (theirs.labels[strays] == own.labels[i]) & (
        theirs.scores[strays] >= own.scores[i] - NEAR
    )
    overlaps = _overlaps(own.boxes[i], theirs.boxes[strays[fits]])
    return bool((overlaps > limits.iou - NEAR).any())


def _overlaps(box: NDArray[Any], boxes: NDArray[Any]) -> NDArray[Any]:
    """Compute intersection over union of one box with others."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = (high - low).clip(min=0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    result: NDArray[Any] = shared / np.maximum(areas - shared, 1e-12)
    return result
