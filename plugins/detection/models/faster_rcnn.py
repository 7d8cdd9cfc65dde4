"""Faster R-CNN: proposals from a pyramid, each classified and refined in a second stage.

Ren et al., 2015, "Faster R-CNN"; Lin et al., 2017, "Feature pyramid networks". The layers and
anchors are torchvision's; the number of proposals is fixed, so that they can be exported.
The second version (Li et al., 2021, "Benchmarking detection transfer learning with vision transformers") is the one of
torchvision's ``fasterrcnn_resnet50_fpn_v2``: batch norm in the pyramid, and more convolutions in both stages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import (
    FastRCNNConvFCHead,
    FastRCNNPredictor,
    TwoMLPHead,
)
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import roi_align

from visiongraft.backbone import Backbone, Features
from visiongraft.plugins.detection.models.anchors import (
    Anchors,
    by_anchor,
    is_letterboxed,
    level_anchors,
)
from visiongraft.plugins.detection.models.box_coding import BoxCoder
from visiongraft.plugins.detection.models.losses import Terms
from visiongraft.plugins.detection.models.matching import (
    IGNORED,
    Sampler,
    match_boxes,
    take_matched,
)
from visiongraft.plugins.detection.models.nms import nms_keep
from visiongraft.plugins.detection.models.proposals import CODER, propose, region_levels
from visiongraft.plugins.detection.models.pyramid import FeaturePyramid
from visiongraft.plugins.detection.models.selection import Limits, clip, results, take_best
from visiongraft.plugins.detection.objects import scaled_boxes
from visiongraft.task import Decoded
from visiongraft.task_contract.class_rows import ClassRows

STRIDE = 4
ANCHOR = 8  # strides; the anchor of a level
RATIOS = (0.5, 1.0, 2.0)
ANCHORS_SAMPLED, REGIONS_SAMPLED = 256, 64  # per image; of regions torchvision has 512
ANCHOR_LOW, ANCHOR_HIGH = 0.3, 0.7  # intersection over union: background below, a match from here
REGION_LOW = REGION_HIGH = 0.5
REGION = 7  # cells per side
POINTS = 2  # sampling points per side of a cell
HIDDEN = 1024
CONVOLUTIONS = 4  # of the second stage, in the second version
BACKGROUND_PRIOR = 0.96  # probability of background before training
REGION_CODER = BoxCoder(center=10.0, side=5.0)
BETA = 1 / 9  # of smooth L1
SMALLEST_BOX = 1e-2  # pixels; narrower detections are dropped


class FasterRcnnLayers(nn.Module):
    """Proposals, and classes and boxes for each of them.

    Args:
        backbone: Computes the feature maps.
        classes: Number of classes.
        width: Channels of the pyramid.
        second: Whether to build the second version.
    """

    def __init__(
        self, backbone: Backbone, classes: int, width: int, *, second: bool = False
    ) -> None:
        super().__init__()
        self.pyramid = FeaturePyramid(backbone, width, STRIDE, further="pooled", norms=second)
        levels = self.pyramid.levels
        sizes = tuple((int(ANCHOR * level.stride),) for level in levels)
        generator = AnchorGenerator(sizes, (RATIOS,) * len(levels))
        self.anchors = Anchors(generator, levels, backbone.info.preprocess)
        self.rpn = RPNHead(width, len(RATIOS), conv_depth=2 if second else 1)
        self.box_head = (
            FastRCNNConvFCHead(
                (width, REGION, REGION), [width] * CONVOLUTIONS, [HIDDEN], norm_layer=nn.BatchNorm2d
            )
            if second
            else TwoMLPHead(width * REGION**2, HIDDEN)
        )
        self.box_predictor = FastRCNNPredictor(HIDDEN, classes + 1)
        # Start by detecting nothing: suppressing nearly equal candidates, twice over, depends on
        # the last digit.
        odds = BACKGROUND_PRIOR / (1 - BACKGROUND_PRIOR)
        with torch.no_grad():
            self.box_predictor.cls_score.bias[0] = math.log(odds * classes)
        self.strides = [level.stride for level in levels[:-1]]  # regions skip the pooled map
        self.anchor_sampler = Sampler(ANCHORS_SAMPLED, 0.5)
        self.region_sampler = Sampler(REGIONS_SAMPLED, 0.25)

    def forward(
        self, features: Features, targets: Sequence[Mapping[str, Tensor]] | None = None
    ) -> dict[str, Tensor]:
        """Predict for each proposal; in training also for each anchor.

        Args:
            features: The backbone's; its feature maps are used.
            targets: The result of ``Objects.tensors``, one for each image; only to train.

        Returns:
            ``class_logits`` (N, P, classes + 1), the first of them for background,
            ``box_regression`` (N, P, 4 * (classes + 1)), ``proposals`` (N, P, 4),
            ``proposal_scores`` (N, P), 0 where there is none, and the result of
            ``Anchors.outputs``. With targets, the regions of all images are concatenated
            (R, ...), a sample of proposals and objects, along with what ``faster_rcnn_loss`` needs.
        """
        maps = self.pyramid(features)
        logits, deltas = self.rpn(maps)
        objectness = torch.cat([by_anchor(x, 1) for x in logits], 1)[:, :, 0].float()
        codes = torch.cat([by_anchor(x, 4) for x in deltas], 1).float()
        fixed = self.anchors.outputs()
        proposals, scores = propose(objectness.detach(), codes.detach(), fixed)
        if targets is not None:
            objects = [
                scaled_boxes(target, fixed["size"], is_letterboxed(fixed)) for target in targets
            ]
            anchors = self._sample_anchors(objects, torch.cat(level_anchors(fixed)))
            regions = self._sample_regions(objects, proposals, scores)
            predicted = self._predict(maps, regions["proposals"], regions["image"])
            raw = {"objectness": objectness, "rpn_regression": codes}
            return {**raw, **anchors, **regions, **predicted, **fixed}
        images, slots = scores.shape
        image = torch.arange(images, device=scores.device)[:, None].expand(-1, slots)
        predicted = self._predict(maps, proposals.reshape(-1, 4), image.reshape(-1))
        by_image = {
            name: value.reshape(images, slots, value.shape[1]) for name, value in predicted.items()
        }
        return {**by_image, "proposals": proposals, "proposal_scores": scores, **fixed}

    def class_rows(self, names: tuple[str, ...]) -> dict[str, ClassRows]:
        """Return where the classes are; see ``Task.class_rows``."""
        scores, boxes = ClassRows(names, before=1), ClassRows(names, each=4, before=1)
        return {
            f"box_predictor.{layer}.{kind}": rows
            for layer, rows in (("cls_score", scores), ("bbox_pred", boxes))
            for kind in ("weight", "bias")
        }

    def _predict(self, maps: Sequence[Tensor], boxes: Tensor, image: Tensor) -> dict[str, Tensor]:
        """Predict for regions (R, 4) of the images with these positions (R,)."""
        # roi_align reads out of bounds for coordinates that are NaN.
        finite = boxes.nan_to_num()
        level = region_levels(finite, self.strides)
        rois = torch.cat([image[:, None].to(boxes.dtype), finite], 1)
        pooled = torch.zeros((), device=boxes.device)
        for i, (stride, x) in enumerate(zip(self.strides, maps[: len(self.strides)], strict=True)):
            # Regions of other levels shrink to nothing here, and are masked out.
            mine = (level == i).to(boxes.dtype)[:, None]
            cells = roi_align(
                x.float(),
                rois * torch.cat([torch.ones_like(mine), mine.expand(-1, 4)], 1),
                (REGION, REGION),
                spatial_scale=1 / stride,
                sampling_ratio=POINTS,
            )
            pooled = pooled + cells * mine[:, :, None, None]
        pooled = pooled + (boxes - finite).sum(1)[:, None, None, None]  # 0, or NaN again
        hidden = self.box_head(pooled)
        logits, codes = self.box_predictor(hidden)
        return {"class_logits": logits, "box_regression": codes}

    def _sample_anchors(
        self, objects: Sequence[Mapping[str, Tensor]], anchors: Tensor
    ) -> dict[str, Tensor]:
        """Sample the anchors to train on: which are objects, and what their codes should be."""
        codes, positive, negative = [], [], []
        for each in objects:
            matches = match_boxes(each["boxes"], anchors, ANCHOR_LOW, ANCHOR_HIGH, keep_best=True)
            classes = (matches >= 0).long().masked_fill(matches == IGNORED, -1)
            codes.append(CODER.encode(take_matched(each["boxes"], matches), anchors))
            chosen, others = self.anchor_sampler(classes)
            positive.append(chosen)
            negative.append(others)
        return {
            "anchor_codes": torch.stack(codes),
            "anchor_positive": torch.stack(positive),
            "anchor_sampled": torch.stack(positive) | torch.stack(negative),
        }

    def _sample_regions(
        self, objects: Sequence[Mapping[str, Tensor]], proposals: Tensor, scores: Tensor
    ) -> dict[str, Tensor]:
        """Sample the regions to train on among proposals and objects: their classes and codes."""
        regions, classes, codes = [], [], []
        for each, boxes, score in zip(objects, proposals, scores, strict=True):
            order = score.argsort(descending=True, stable=True)
            candidates = torch.cat([boxes[order[score[order] > 0]], each["boxes"]])
            matches = match_boxes(each["boxes"], candidates, REGION_LOW, REGION_HIGH)
            labels = (take_matched(each["labels"], matches) + 1).masked_fill(matches < 0, 0)
            positive, negative = self.region_sampler(labels)
            sampled = positive | negative
            regions.append(candidates[sampled])
            classes.append(labels[sampled])
            truth = take_matched(each["boxes"], matches[sampled])
            codes.append(REGION_CODER.encode(truth, candidates[sampled]))
        return {
            "proposals": torch.cat(regions),
            "image": torch.cat([torch.full_like(each, i) for i, each in enumerate(classes)]),
            "region_labels": torch.cat(classes),
            "region_codes": torch.cat(codes),
        }


def faster_rcnn_loss(
    outputs: Mapping[str, Tensor], image: int, objects: Mapping[str, Tensor]
) -> Terms:
    """Compute the loss terms of one image.

    Args:
        outputs: The result of ``FasterRcnnLayers`` with targets.
        image: Position of the image.
        objects: Not used: the outputs contain the samples.

    Returns:
        ``objectness`` and ``classifier``: cross-entropy; ``rpn_box_reg`` and ``box_reg``: smooth
        L1; for a sample of anchors, and of regions.
    """
    return {**_anchor_loss(outputs, image), **_region_loss(outputs, image)}


def _anchor_loss(outputs: Mapping[str, Tensor], image: int) -> Terms:
    positive, sampled = outputs["anchor_positive"][image], outputs["anchor_sampled"][image]
    codes, truth = outputs["rpn_regression"][image], outputs["anchor_codes"][image]
    boxes = F.smooth_l1_loss(codes[positive], truth[positive], beta=BETA, reduction="sum")
    objectness = outputs["objectness"][image][sampled]
    classes = F.binary_cross_entropy_with_logits(objectness, positive[sampled].float())
    return {"objectness": classes, "rpn_box_reg": boxes / sampled.sum()}


def _region_loss(outputs: Mapping[str, Tensor], image: int) -> Terms:
    mine = outputs["image"] == image
    class_ids = outputs["region_labels"][mine]
    codes = outputs["box_regression"][mine].float().unflatten(1, (-1, 4))
    objects = class_ids > 0
    boxes = F.smooth_l1_loss(
        codes[objects, class_ids[objects]],
        outputs["region_codes"][mine][objects],
        beta=BETA,
        reduction="sum",
    )
    classes = F.cross_entropy(outputs["class_logits"][mine].float(), class_ids)
    return {"classifier": classes, "box_reg": boxes / len(class_ids)}


def decode_faster_rcnn(outputs: Mapping[str, Tensor], sizes: Tensor, limits: Limits) -> Decoded:
    """Turn the outputs of ``FasterRcnnLayers`` into detections; see ``selection.results``.

    Suppression works class by class, and here each class has boxes of its own, so every class of
    every image goes through it as an image of its own.
    """
    logits, proposals = outputs["class_logits"].float(), outputs["proposals"]
    images, slots, classes = logits.shape
    codes = outputs["box_regression"].float().reshape(images, slots, classes, 4)
    boxes = clip(REGION_CODER.decode(codes, proposals[:, :, None])[:, :, 1:], outputs["size"])
    exists = (outputs["proposal_scores"] > 0)[:, :, None]
    has_area = ((boxes[..., 2:] - boxes[..., :2]) >= SMALLEST_BOX).all(3)
    scores = logits.softmax(2)[:, :, 1:] * exists * has_area
    own_boxes = boxes.transpose(1, 2).reshape(images * (classes - 1), slots, 4)
    own_scores = scores.transpose(1, 2).reshape(images * (classes - 1), 1, slots)
    kept = nms_keep(own_boxes, own_scores, limits.iou, limits.score)
    return results(
        *take_best(
            own_boxes.reshape(images, (classes - 1) * slots, 4),
            kept.reshape(images, (classes - 1) * slots),
            slots,
            limits.detections,
        ),
        outputs,
        sizes,
    )
