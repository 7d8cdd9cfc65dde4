"""Which detections are of which objects."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_iou

IOU = 0.5  # from which on a detection is of an object
NOTHING = -1  # in place of a class id


def match_objects(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    target: Mapping[str, Tensor],
) -> list[tuple[float, int, int]]:
    """Match detections with objects of any class, the highest score first.

    Those above a threshold match as if there were no others.

    Args:
        boxes: float32 (K, 4).
        scores: float32 (K,), in descending order.
        labels: int64 (K,), class ids.
        target: The result of ``Objects.tensors``.

    Returns:
        Score, class id and class id of the object of each detection, -1 for none; those of crowd regions
        are left out.
    """
    overlaps = box_iou(torch.from_numpy(np.asarray(boxes, np.float32)).view(-1, 4), target["boxes"])
    crowd, classes = target["crowd"], target["labels"]
    free = ~crowd
    found: list[tuple[float, int, int]] = []
    for row, score, label in zip(overlaps, scores.tolist(), labels.tolist(), strict=True):
        own = torch.where(free, row, -torch.ones_like(row))
        # An object of the same class is preferred among those that overlap enough.
        own = own + (own >= IOU) * (classes == label)
        best = int(own.argmax()) if len(own) else NOTHING
        if best != NOTHING and own[best] >= IOU:
            free[best] = False
            found.append((score, label, int(classes[best])))
        elif not bool(((row >= IOU) & crowd).any()):
            found.append((score, label, NOTHING))
    return found
