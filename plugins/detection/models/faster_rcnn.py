"""Faster R-CNN: proposals from a pyramid, each looked at once more.

Ren et al., 2015, "Faster R-CNN"; Lin et al., 2017, "Feature pyramid networks". The layers, anchors,
sampling and loss terms are torchvision's; proposals keep a fixed number, so that they export.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import roi_align

from visiongraft.backbone import Backbone, Features
from visiongraft.plugins.detection.models.anchors import Anchors, by_anchor, level_anchors
from visiongraft.plugins.detection.models.nms import nms_keep
from visiongraft.plugins.detection.models.proposals import (
    CODER,
    OVERLAP,
    Sampler,
    propose,
    region_levels,
)
from visiongraft.plugins.detection.models.pyramid import FeaturePyramid
from visiongraft.plugins.detection.models.selection import Limits, clip, results, take_best
from visiongraft.plugins.detection.objects import scaled_boxes
from visiongraft.task import Decoded

STRIDE = 4
ANCHOR = 8  # strides; the anchor of a level
RATIOS = (0.5, 1.0, 2.0)
ANCHORS_SAMPLED, REGIONS_SAMPLED = 256, 64  # per image; of regions torchvision has 512
REGION = 7  # cells a side
POINTS = 2  # samples a side in each cell of a region
HIDDEN = 1024
BACKGROUND = 0.96  # probability of no object before training
REGION_CODER = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
SMALLEST_BOX = 1e-2  # pixels; narrower detections go


class FasterRcnnLayers(nn.Module):
    """Proposals, and labels and boxes for each of them.

    Args:
        backbone: Gives the maps.
        labels: Number of labels.
        width: Channels of the pyramid.
    """

    def __init__(self, backbone: Backbone, labels: int, width: int) -> None:
        super().__init__()
        self.pyramid = FeaturePyramid(backbone, width, STRIDE, further="pooled")
        levels = self.pyramid.levels
        sizes = tuple((int(ANCHOR * level.stride),) for level in levels)
        generator = AnchorGenerator(sizes, (RATIOS,) * len(levels))
        self.anchors = Anchors(generator, levels, backbone.info.preprocess.size)
        self.rpn = RPNHead(width, len(RATIOS))
        self.box_head = TwoMLPHead(width * REGION**2, HIDDEN)
        self.box_predictor = FastRCNNPredictor(HIDDEN, labels + 1)
        # Begin by finding nothing: suppression of nearly equal candidates, two times over, is a
        # matter of the last digit.
        with torch.no_grad():
            self.box_predictor.cls_score.bias[0] = math.log(BACKGROUND / (1 - BACKGROUND) * labels)
        self.strides = [level.stride for level in levels[:-1]]  # regions leave the pooled map out
        self.anchor_sampler = Sampler(ANCHORS_SAMPLED, 0.5)
        self.region_sampler = Sampler(REGIONS_SAMPLED, 0.25)
        # torchvision's matching and sampling; neither has layers here.
        self.matching: Any = RegionProposalNetwork(
            generator, nn.Identity(), 0.7, 0.3, ANCHORS_SAMPLED, 0.5, {}, {}, OVERLAP
        )
        self.regions: Any = RoIHeads(
            None, None, None, 0.5, 0.5, REGIONS_SAMPLED, 0.25, None, 0.0, 0.5, 1
        )
        self.regions.fg_bg_sampler = self.region_sampler

    def forward(
        self, features: Features, targets: Sequence[Mapping[str, Tensor]] | None = None
    ) -> dict[str, Tensor]:
        """Predict for each proposal; in training also for each anchor.

        Args:
            features: Their maps are used.
            targets: What ``Objects.tensors`` gave, one for each image; only to train.

        Returns:
            ``class_logits`` (N, P, labels + 1), the first of them for background,
            ``box_regression`` (N, P, 4 * (labels + 1)), ``proposals`` (N, P, 4),
            ``proposal_scores`` (N, P), 0 where there is none, and what ``Anchors.outputs`` gives.
            With targets the regions of all images are in one row (R, ...), a sample of proposals
            and objects, and what ``FasterRcnnLoss`` needs comes with them.
        """
        maps = self.pyramid(features)
        logits, deltas = self.rpn(maps)
        objectness = torch.cat([by_anchor(x, 1) for x in logits], 1)[:, :, 0].float()
        codes = torch.cat([by_anchor(x, 4) for x in deltas], 1).float()
        fixed = self.anchors.outputs()
        proposals, scores = propose(objectness.detach(), codes.detach(), fixed)
        if targets is not None:
            own = [scaled_boxes(target, fixed["size"]) for target in targets]
            anchors = self._sample_anchors(own, torch.cat(level_anchors(fixed)))
            regions = self._sample_regions(own, proposals, scores)
            found = self._look(maps, regions["proposals"], regions["image"])
            raw = {"objectness": objectness, "rpn_regression": codes}
            return {**raw, **anchors, **regions, **found, **fixed}
        images, places = scores.shape
        image = torch.arange(images, device=scores.device)[:, None].expand(-1, places)
        found = self._look(maps, proposals.reshape(-1, 4), image.reshape(-1))
        by_image = {
            name: value.reshape(images, places, value.shape[1]) for name, value in found.items()
        }
        return {**by_image, "proposals": proposals, "proposal_scores": scores, **fixed}

    def _look(self, maps: Sequence[Tensor], boxes: Tensor, image: Tensor) -> dict[str, Tensor]:
        """Predict for regions (R, 4) of the images with these positions (R,)."""
        # For places that are no numbers roi_align reads memory that is not its own.
        sound = boxes.nan_to_num()
        level = region_levels(sound, self.strides)
        rois = torch.cat([image[:, None].to(boxes.dtype), sound], 1)
        pooled = torch.zeros((), device=boxes.device)
        for i, (stride, x) in enumerate(zip(self.strides, maps[: len(self.strides)], strict=True)):
            # Regions of other levels shrink to nothing here, and are not counted.
            mine = (level == i).to(boxes.dtype)[:, None]
            cells = roi_align(
                x.float(),
                rois * torch.cat([torch.ones_like(mine), mine.expand(-1, 4)], 1),
                (REGION, REGION),
                spatial_scale=1 / stride,
                sampling_ratio=POINTS,
            )
            pooled = pooled + cells * mine[:, :, None, None]
        pooled = pooled + (boxes - sound).sum(1)[:, None, None, None]  # 0, or still no number
        hidden = self.box_head(pooled)
        logits, codes = self.box_predictor(hidden)
        return {"class_logits": logits, "box_regression": codes}

    def _sample_anchors(
        self, own: Sequence[Mapping[str, Tensor]], anchors: Tensor
    ) -> dict[str, Tensor]:
        """Choose the anchors that train: which are objects, and what their codes should be."""
        every = [anchors] * len(own)
        labels, boxes = self.matching.assign_targets_to_anchors(every, own)
        codes = CODER.encode(boxes, every)
        positive, negative = self.anchor_sampler(labels)
        return {
            "anchor_labels": torch.stack(labels),
            "anchor_codes": torch.stack(codes),
            "anchor_positive": torch.stack(positive).bool(),
            "anchor_sampled": (torch.stack(positive) | torch.stack(negative)).bool(),
        }

    def _sample_regions(
        self, own: Sequence[Mapping[str, Tensor]], proposals: Tensor, scores: Tensor
    ) -> dict[str, Tensor]:
        """Choose the regions that train, objects among them: their labels and codes."""
        real = []
        for boxes, score in zip(proposals, scores, strict=True):
            order = score.argsort(descending=True, stable=True)
            real.append(boxes[order[score[order] > 0]])
        targets = [{"boxes": o["boxes"], "labels": o["labels"] + 1} for o in own]
        chosen, _, labels, codes = self.regions.select_training_samples(real, targets)
        image = [torch.full_like(each, i) for i, each in enumerate(labels)]
        return {
            "proposals": torch.cat(chosen),
            "image": torch.cat(image),
            "region_labels": torch.cat(labels),
            "region_codes": torch.cat(codes),
        }


class FasterRcnnLoss(nn.Module):
    """Cross-entropy and smooth L1 for anchors and for regions, as in torchvision.

    torchvision averages over the sampled anchors and regions of a batch. Here that is done for each
    image, and images are averaged: only so do accumulated gradients and several processes give
    what one large batch gives. For a single image the two are the same.
    """

    def forward(
        self, outputs: Mapping[str, Tensor], targets: Sequence[Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            outputs: What ``FasterRcnnLayers`` gave with these targets.
            targets: What ``Objects.tensors`` gave, one for each image.

        Returns:
            ``objectness``, ``rpn_box_reg``, ``classifier`` and ``box_reg``, means over images.
        """
        sums: dict[str, list[Tensor]] = {}
        for i in range(len(targets)):
            for name, part in {**_anchor_loss(outputs, i), **_region_loss(outputs, i)}.items():
                sums.setdefault(name, []).append(part)
        return {name: torch.stack(parts).mean() for name, parts in sums.items()}


def decode_faster_rcnn(outputs: Mapping[str, Tensor], sizes: Tensor, limits: Limits) -> Decoded:
    """Turn the outputs of ``FasterRcnnLayers`` into detections; see ``selection.results``.

    Suppression works label by label, and here each label has boxes of its own, so every label of
    every image goes through it like an image.
    """
    logits, proposals = outputs["class_logits"].float(), outputs["proposals"]
    images, places, labels = logits.shape
    codes = outputs["box_regression"].float().reshape(images * places, labels * 4)
    boxes = REGION_CODER.decode_single(codes, proposals.reshape(images * places, 4))
    boxes = clip(boxes.reshape(images, places, labels, 4)[:, :, 1:], outputs["size"])
    there = (outputs["proposal_scores"] > 0)[:, :, None]
    broad = ((boxes[..., 2:] - boxes[..., :2]) >= SMALLEST_BOX).all(3)
    scores = logits.softmax(2)[:, :, 1:] * there * broad
    own_boxes = boxes.transpose(1, 2).reshape(images * (labels - 1), places, 4)
    own_scores = scores.transpose(1, 2).reshape(images * (labels - 1), 1, places)
    kept = nms_keep(own_boxes, own_scores, limits.iou, limits.score)
    return results(
        *take_best(
            own_boxes.reshape(images, (labels - 1) * places, 4),
            kept.reshape(images, (labels - 1) * places),
            places,
            limits.detections,
        ),
        outputs["size"],
        sizes,
    )


def _anchor_loss(outputs: Mapping[str, Tensor], image: int) -> dict[str, Tensor]:
    positive, sampled = outputs["anchor_positive"][image], outputs["anchor_sampled"][image]
    codes, wanted = outputs["rpn_regression"][image], outputs["anchor_codes"][image]
    boxes = F.smooth_l1_loss(codes[positive], wanted[positive], beta=1 / 9, reduction="sum")
    labels = F.binary_cross_entropy_with_logits(
        outputs["objectness"][image][sampled], outputs["anchor_labels"][image][sampled]
    )
    return {"objectness": labels, "rpn_box_reg": boxes / sampled.sum()}


def _region_loss(outputs: Mapping[str, Tensor], image: int) -> dict[str, Tensor]:
    mine = outputs["image"] == image
    labels, boxes = fastrcnn_loss(
        outputs["class_logits"][mine].float(),
        outputs["box_regression"][mine].float(),
        [outputs["region_labels"][mine]],
        [outputs["region_codes"][mine]],
    )
    return {"classifier": labels, "box_reg": boxes}
