"""Judging annotated boxes by those that a model detects (ObjectLab, Tkachenko et al., 2023, by cleanlab)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

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

    def update(self, decoded: Arrays, targets: Sequence[Mapping[str, Tensor]]) -> None:
        for i, target in enumerate(targets):
            boxes, crowd = target["boxes"].double().numpy(), target["crowd"].numpy()
            labels = target["labels"].numpy()[~crowd]
            self._labels.append({"bboxes": boxes[~crowd], "labels": labels})
            count = int(decoded["count"][i])
            found = np.concatenate(
                [decoded["boxes"][i, :count], decoded["scores"][i, :count, None]], axis=1
            ).astype(np.float64)
            kept = ~_within(found[:, :4], boxes[crowd])
            classes = decoded["labels"][i, :count]
            own = np.empty(len(self.class_names), dtype=object)
            for k in range(len(own)):
                own[k] = found[kept & (classes == k)]
            self._detected.append(own)

    def compute(self) -> JudgedLabels:
        from cleanlab.object_detection.filter import find_label_issues
        from cleanlab.object_detection.rank import get_label_quality_scores

        quality = get_label_quality_scores(self._labels, self._detected, verbose=False)
        wrong = np.asarray(find_label_issues(self._labels, self._detected), np.bool_)
        remarks = [r if w else "" for r, w in zip(self._remarks(), wrong, strict=True)]
        return JudgedLabels(np.asarray(quality, np.float64), wrong, remarks)

    def _remarks(self) -> list[str]:
        """Name the most doubtful box of each image."""
        from cleanlab.object_detection import rank

        scores: dict[str, list[Any]] = {
            kind: getattr(rank, f"compute_{kind}_box_scores")(
                labels=self._labels, predictions=self._detected
            )
            for kind in KINDS
        }
        remarks = []
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
            remarks.append(self._remark(*min(found, key=lambda each: each[0])[1:]) if found else "")
        return remarks

    def _remark(self, kind: str, of: tuple[int, NDArray[Any]]) -> str:
        label, box = of
        place = f"{self.class_names[label]} at {round(box[0])}, {round(box[1])}"
        return WORDS[kind].format(place)


def _within(boxes: NDArray[Any], regions: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which boxes (N, 4) lie mostly within one of some regions (M, 4)."""
    if not len(regions):
        return np.zeros(len(boxes), dtype=np.bool_)
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    common = (high - low).clip(0).prod(axis=2).max(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1)
    return np.asarray(common > INSIDE * areas)
