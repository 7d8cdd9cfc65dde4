"""Judging annotated masks by the class probabilities of a model (Lad and Mueller, 2023, by cleanlab)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.task import Arrays
from visiongraft.task_contract.label_judge import JudgedLabels, LabelJudge

if TYPE_CHECKING:
    from visiongraft.plugins.segmentation.task import Segmentation

SIDE = 96  # cells of a mask on each side that are judged, at the most
FEWEST = 0.01  # part of an image that must be likely wrong


class MaskJudge(LabelJudge):
    """Judges masks in which each pixel has one class.

    A grid of pixels of each image is looked at, so that images of all sizes can be judged together. Ignored
    pixels count as right.

    Args:
        task: The task.
        class_names: Its classes by id.
        ignored: Class id of ignored pixels.
    """

    def __init__(self, task: Segmentation, class_names: Sequence[str], ignored: int) -> None:
        self.task = replace(task, probabilities=True)
        self.class_names, self.ignored = class_names, ignored
        self._labels: list[NDArray[np.int64]] = []
        self._probabilities: list[NDArray[np.float32]] = []

    def update(self, decoded: Arrays, targets: Any) -> None:
        for found, target in zip(decoded["probabilities"], targets, strict=True):
            mask = np.asarray(target)
            rows, columns = (_grid(n) for n in mask.shape)
            given = mask[rows[:, None], columns].astype(np.int64)
            own = found[:, rows[:, None], columns]
            if len(own) == 1:  # of a binary model the foreground alone
                own = np.concatenate([1 - own, own])
            known = (given != self.ignored) & (given < len(self.class_names))
            self._labels.append(np.where(known, given, own.argmax(axis=0)))
            self._probabilities.append(own.astype(np.float32))

    def compute(self) -> JudgedLabels:
        from cleanlab.segmentation.filter import find_label_issues
        from cleanlab.segmentation.rank import get_label_quality_scores

        labels, probabilities = np.stack(self._labels), np.stack(self._probabilities)
        issues = find_label_issues(labels, probabilities, n_jobs=1, verbose=False)
        quality, _ = get_label_quality_scores(labels, probabilities, verbose=False)
        wrong = np.asarray(issues.mean(axis=(1, 2)) >= FEWEST, np.bool_)
        found = probabilities.argmax(axis=1)
        remarks = [
            self._remark(*each) if doubtful else ""
            for each, doubtful in zip(zip(issues, labels, found, strict=True), wrong, strict=True)
        ]
        return JudgedLabels(np.asarray(quality, np.float64), wrong, remarks)

    def _remark(self, issues: NDArray[Any], given: NDArray[Any], found: NDArray[Any]) -> str:
        """Name the most frequent confusion."""
        count = len(self.class_names)
        pairs = np.bincount(given[issues] * count + found[issues], minlength=count**2)
        most = int(pairs.argmax())
        one, other = self.class_names[most // count], self.class_names[most % count]
        return f"{pairs[most] / issues.size:.0%} of the pixels are {one}, or {other}?"


def _grid(length: int) -> NDArray[np.intp]:
    """Return evenly spaced positions, as many for each length."""
    return np.asarray((2 * np.arange(SIDE) + 1) * length // (2 * SIDE), dtype=np.intp)
