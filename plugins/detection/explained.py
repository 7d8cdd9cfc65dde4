"""What explanations of detections are of: the score of what is detected at the place of a box.

As in D-RISE (Petsiuk et al., 2021), a changed image has as much of a detection as the detection of the same
class that is most like it: its score times their intersection over union.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from visiongraft.backbone import Features
from visiongraft.plugins.detection.models.anchors import is_letterboxed
from visiongraft.plugins.detection.objects import shown_sizes
from visiongraft.task import Decoded
from visiongraft.task_contract.explained import Explained

BOXES = 3  # that are explained of an image


def explained_boxes(
    decode: Callable[[Any], Decoded],
    outputs: Mapping[str, Tensor],
    sizes: Tensor,
    names: Sequence[str],
    wanted: str | None,
) -> list[Explained]:
    """Return the surest boxes of an image.

    Args:
        decode: Decodes outputs of a batch of this image, or changed ones of it.
        outputs: Those of the image.
        sizes: int64 (1, 2), its height and width.
        names: Class names.
        wanted: The only class to explain.
    """
    found = decode(outputs)
    # What the network sees of a letterboxed image has a margin.
    height, width = shown_sizes(sizes[0], outputs["size"], is_letterboxed(outputs)).tolist()
    explained: list[Explained] = []
    for i in range(int(found["count"][0])):
        name = names[int(found["labels"][0, i])]
        if wanted not in (None, name) or len(explained) == BOXES:
            continue
        box = found["boxes"][0, i].detach()
        x1, y1, x2, y2 = box.tolist()
        explained.append(
            Explained(
                f"{name} {float(found['scores'][0, i].detach()):.2f}",
                partial(_score, decode, box, int(found["labels"][0, i])),
                (x1 / width, y1 / height, x2 / width, y2 / height),
            )
        )
    return explained


def _score(
    decode: Callable[[Any], Decoded], box: Tensor, label: int, features: Features, outputs: Any
) -> Tensor:
    found = decode(outputs)
    overlaps = torch.stack([box_iou(box[None], own.detach())[0] for own in found["boxes"]])
    same = (found["labels"] == label).to(overlaps.dtype)
    return (found["scores"] * overlaps * same).amax(1)
