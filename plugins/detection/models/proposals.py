"""Faster R-CNN's first stage: which places to look at again, and which of them to learn from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder

from visiongraft.plugins.detection.models.anchors import level_anchors
from visiongraft.plugins.detection.models.nms import nms_keep
from visiongraft.plugins.detection.models.selection import clip, strongest

CANDIDATES = 1000  # per level, before suppression
PROPOSALS = 300  # per image; torchvision has 1000, which only large images need
OVERLAP = 0.7  # of two proposals of one level, above which the weaker goes
SMALLEST = 1e-3  # pixels; narrower proposals go
LEVEL_SIZE, LEVEL = 224, 4  # a region of so many pixels a side is looked at on stride 2**4
CODER = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))


def propose(
    objectness: Tensor, codes: Tensor, outputs: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Choose proposals among the anchors.

    Args:
        objectness: Logits (N, A).
        codes: (N, A, 4).
        outputs: What ``Anchors.outputs`` gave.

    Returns:
        Proposals (N, P, 4) in network pixels, and scores (N, P), 0 at empty places.
    """
    boxes, best, level_of = [], [], []
    start = 0
    for i, anchors in enumerate(level_anchors(outputs)):
        end = start + len(anchors)
        top, index = strongest(objectness[:, start:end], CANDIDATES)
        chosen = codes[:, start:end].gather(1, index[:, :, None].expand(-1, -1, 4))
        flat = CODER.decode_single(chosen.reshape(-1, 4), anchors[index].reshape(-1, 4))
        boxes.append(flat.reshape(chosen.shape))
        best.append(above_zero(top))
        level_of.append(torch.full_like(index, i))
        start = end
    everything = clip(torch.cat(boxes, 1), outputs["size"])
    broad = ((everything[..., 2:] - everything[..., :2]) >= SMALLEST).all(2)
    scores = torch.cat(best, 1) * broad
    marks = F.one_hot(torch.cat(level_of, 1), len(boxes)).to(scores.dtype)
    kept = nms_keep(everything, (marks * scores[:, :, None]).transpose(1, 2), OVERLAP, 0.0).amax(1)
    scores, place = strongest(kept, PROPOSALS)
    proposals = everything.gather(1, place[:, :, None].expand(-1, -1, 4))
    return proposals * (scores > 0)[:, :, None], scores


def above_zero(logits: Tensor) -> Tensor:
    """Bring logits to 0..1 in their order.

    A sigmoid would do, but it ends at 0, which stands for nothing here, and where it does is not
    the same in two runtimes.
    """
    return 0.5 + 0.5 * logits / (1 + logits.abs())


def region_levels(boxes: Tensor, strides: Sequence[float]) -> Tensor:
    """Say on which level each region is looked at (equation 1 of the pyramid's paper).

    Args:
        boxes: (R, 4) in network pixels.
        strides: Of the levels, each twice the one before.

    Returns:
        int64 (R,), positions in ``strides``.
    """
    side = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1).sqrt()
    level = torch.floor(LEVEL + torch.log2(side / LEVEL_SIZE + 1e-12) + 1e-6)
    finest = round(math.log2(strides[0]))
    return (level - finest).clamp(0, len(strides) - 1).to(torch.int64)


class Sampler(nn.Module):
    """Draws objects and background for training; in evaluation it takes evenly spaced ones.

    So an image's loss is the same in any batch unless it trains.

    Args:
        count: How many per image.
        fraction: At most this share of them are objects.
    """

    def __init__(self, count: int, fraction: float) -> None:
        super().__init__()
        self.count, self.fraction = count, fraction
        self.random = BalancedPositiveNegativeSampler(count, fraction)

    def forward(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Choose.

        Args:
            labels: For each image 1 or more for objects, 0 for background, -1 for neither.

        Returns:
            For each image a mask, uint8, of the objects and one of the background chosen.
        """
        if self.training:
            chosen: tuple[list[Tensor], list[Tensor]] = self.random(labels)
            return chosen
        positive: list[Tensor] = []
        negative: list[Tensor] = []
        for each in labels:
            objects = _spaced(torch.where(each >= 1)[0], int(self.count * self.fraction))
            others = _spaced(torch.where(each == 0)[0], self.count - len(objects))
            for places, masks in ((objects, positive), (others, negative)):
                masks.append(torch.zeros_like(each, dtype=torch.uint8).index_fill_(0, places, 1))
        return positive, negative


def _spaced(places: Tensor, count: int) -> Tensor:
    if len(places) <= count:
        return places
    return places[torch.arange(count, device=places.device) * len(places) // count]
