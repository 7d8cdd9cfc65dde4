"""Judging annotated boxes by those that a model detects (ObjectLab, Tkachenko et al., 2023, by cleanlab).

ObjectLab looks at detections with a score of 0.95 or more. How high the scores of right detections are depends on head
and training; many detectors never reach 0.95. So scores are stretched first: those from which on detections agree best
with the boxes become 0.95 and more. Precision counts twice as much as recall there (F-measure with beta = 0.5), since
each false detection would blame a right label. A few wrong labels hardly move that score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from visiongraft.plugins.detection.matching import match_objects
from visiongraft.task import Arrays
from visiongraft.task_contract.label_judge import JudgedLabels, LabelJudge

if TYPE_CHECKING:
    from visiongraft.plugins.detection.task import Detection

KINDS = ("overlooked", "badloc", "swap")
WORDS = {
    "overlooked": "{} may be without a box",
    "badloc": "the box of {} may lie badly",
    "swap": "{} may be of another class",
}
BETA = 0.5  # how much recall counts beside precision
SURE, UNSURE = 0.96, 0.5  # where cleanlab takes detections seriously, and where not
DOUBTFUL = (
    0.5  # highest score of a box that is likely wrong: about the overlap with a sure detection
)
NONE_RIGHT = 1.01  # above all scores: no detection is sure
INSIDE = 0.5  # part of a detected box within a crowd region that excuses it


class BoxJudge(LabelJudge):
    """Judges the boxes of images.

    Crowd regions, and what is detected within them, are left out.

    Args:
        task: The task.
        class_names: Its classes by id.
    """

    def __init__(self, task: Detection, class_names: Sequence[str]) -> None:
        self.task, self.class_names = task, class_names
        self._labels: list[dict[str, Any]] = []
        self._detected: list[NDArray[Any]] = []
        self._matches: list[tuple[float, int, int]] = []

    def update(self, decoded: Arrays, targets: Sequence[Mapping[str, Tensor]]) -> None:
        for i, target in enumerate(targets):
            boxes, crowd = target["boxes"].double().numpy(), target["crowd"].numpy()
            labels = target["labels"].numpy()[~crowd]
            self._labels.append({"bboxes": boxes[~crowd], "labels": labels})
            count = int(decoded["count"][i])
            places, scores, classes = (
                decoded[name][i, :count] for name in ("boxes", "scores", "labels")
            )
            self._matches += match_objects(places, scores, classes, target)
            found = np.concatenate([places, scores[:, None]], axis=1).astype(np.float64)
            kept = ~_within(found[:, :4], boxes[crowd])
            own = np.empty(len(self.class_names), dtype=object)
            for k in range(len(own)):
                own[k] = found[kept & (classes == k)]
            self._detected.append(own)

    def compute(self) -> JudgedLabels:
        from cleanlab.object_detection import rank

        detected = _stretched(self._detected, self._sure())
        quality = rank.get_label_quality_scores(self._labels, detected, verbose=False)
        scores: dict[str, list[Any]] = {
            kind: getattr(rank, f"compute_{kind}_box_scores")(
                labels=self._labels, predictions=detected
            )
            for kind in KINDS
        }
        worst = self._worst(scores)
        wrong = np.array([score <= DOUBTFUL for score, _ in worst], np.bool_)
        remarks = [remark if score <= DOUBTFUL else "" for score, remark in worst]
        return JudgedLabels(np.asarray(quality, np.float64), wrong, remarks)

    def _sure(self) -> float:
        """Return the score from which on detections agree best with the boxes; above all if none is right."""
        objects = sum(len(labels["labels"]) for labels in self._labels)
        ordered = sorted(self._matches, key=lambda match: -match[0])
        right = np.cumsum([found == true for _, found, true in ordered])
        if not right.any():
            return NONE_RIGHT
        scores = np.array([score for score, *_ in ordered])
        last = np.append(scores[1:] != scores[:-1], True)  # equal scores count together
        agreement = right / (np.arange(1, len(right) + 1) + BETA**2 * objects)
        return float(scores[np.where(last, agreement, 0.0).argmax()])

    def _worst(self, scores: Mapping[str, Sequence[Any]]) -> list[tuple[float, str]]:
        """Return the lowest score of a box of each image, and what may be wrong with it."""
        worst = []
        for i, (labels, detected) in enumerate(zip(self._labels, self._detected, strict=True)):
            listed = [(k, box) for k, own in enumerate(detected) for box in own]
            found = []
            for kind, own in scores.items():
                values = np.nan_to_num(np.asarray(own[i], np.float64), nan=1.0)
                if len(values):
                    at = int(values.argmin())
                    of = (
                        listed[at]
                        if kind == "overlooked"
                        else (int(labels["labels"][at]), labels["bboxes"][at])
                    )
                    found.append((float(values[at]), kind, of))
            score, *what = min(found, key=lambda each: each[0], default=(1.0, "", None))
            worst.append((score, self._remark(*what) if found else ""))
        return worst

    def _remark(self, kind: str, of: tuple[int, NDArray[Any]]) -> str:
        label, box = of
        place = f"{self.class_names[label]} at {round(box[0])}, {round(box[1])}"
        return WORDS[kind].format(place)


def _stretched(detected: Sequence[NDArray[Any]], sure: float) -> list[NDArray[Any]]:
    """Map scores, keeping their order, so that cleanlab takes those of at least ``sure`` seriously."""
    found = []
    for image in detected:
        own = np.empty(len(image), dtype=object)
        for k, boxes in enumerate(image):
            above = SURE + (1 - SURE) * (boxes[:, 4] - sure) / max(1 - sure, 1e-12)
            below = UNSURE * boxes[:, 4] / max(sure, 1e-12)
            scores = np.where(boxes[:, 4] >= sure, above, below).clip(0, 1)
            own[k] = np.concatenate([boxes[:, :4], scores[:, None]], axis=1)
        found.append(own)
    return found


def _within(boxes: NDArray[Any], regions: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which boxes (N, 4) lie mostly within one of some regions (M, 4)."""
    if not len(regions):
        return np.zeros(len(boxes), dtype=np.bool_)
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    common = (high - low).clip(0).prod(axis=2).max(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1)
    return np.asarray(common > INSIDE * areas)
