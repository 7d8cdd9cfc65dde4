"""Recognize the detectors that torchvision publishes, and name their tensors as this task does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from visiongraft.errors import WeightsError
from visiongraft.plugins.dense.residual import residual_name
from visiongraft.task_contract.class_rows import ClassRows
from visiongraft.task_contract.published import Published

BODY, PYRAMID = "backbone.body.", "backbone.fpn."
SCORES = "head.classification_head.cls_logits.weight"
CENTERNESS = "head.regression_head.bbox_ctrness.weight"
SECOND_STAGE = "roi_heads.box_predictor.cls_score.weight"
SIZE = (800, 800)  # torchvision resizes to 800 pixels on the shorter side
ANCHORS = 9  # per cell of RetinaNet
NO_CLASS = ("__background__", "N/A")


def read_published(tensors: Mapping[str, Tensor], class_names: Sequence[str]) -> Published | None:
    """Recognize a checkpoint of torchvision's detectors; see ``Task.read_published``.

    Args:
        tensors: Tensors by name.
        class_names: The classes that the user names, if any.
    """
    if SCORES in tensors and f"{PYRAMID}layer_blocks.0.0.weight" in tensors:
        return (
            _fcos(tensors, class_names)
            if CENTERNESS in tensors
            else _retinanet(tensors, class_names)
        )
    if SECOND_STAGE in tensors and f"{PYRAMID}inner_blocks.0.0.weight" in tensors:
        return _faster_rcnn(tensors, class_names)
    if "head.classification_head.module_list.0.weight" in tensors:
        return _ssd(tensors, class_names, "ssd", "ssd300_vgg16")
    if "head.classification_head.module_list.0.1.weight" in tensors:
        return _ssd(tensors, class_names, "ssdlite", "ssdlite320_mobilenet_v3_large")
    return None


def _fcos(tensors: Mapping[str, Tensor], class_names: Sequence[str]) -> Published:
    scores = len(tensors[SCORES])
    return _one_stage(tensors, "fcos", "fcos_{}_fpn", scores, 1, class_names)


def _retinanet(tensors: Mapping[str, Tensor], class_names: Sequence[str]) -> Published:
    if "head.classification_head.conv.0.1.weight" not in tensors:
        raise WeightsError(
            "this is a RetinaNet without group norm, such as retinanet_resnet50_fpn of torchvision; only its second "
            "version, retinanet_resnet50_fpn_v2, fits head='retinanet'"
        )
    scores = len(tensors[SCORES]) // ANCHORS
    return _one_stage(tensors, "retinanet", "retinanet_{}_fpn_v2", scores, ANCHORS, class_names)


def _one_stage(
    tensors: Mapping[str, Tensor],
    head: str,
    called: str,
    scores: int,
    anchors: int,
    class_names: Sequence[str],
) -> Published:
    """Describe a detector that scores each class by itself, the unused class 0 included."""
    names = _class_names(scores, class_names)
    layer = SCORES.removesuffix(".weight")
    chosen = {
        f"{layer}.{kind}": ClassRows(names.all, groups=anchors) for kind in ("weight", "bias")
    }
    renamed = {n: n for n in tensors if n.startswith("head.")}
    return _published(tensors, head, called, names, chosen, renamed)


def _faster_rcnn(tensors: Mapping[str, Tensor], class_names: Sequence[str]) -> Published:
    if any(n.startswith(("roi_heads.mask_", "roi_heads.keypoint_")) for n in tensors):
        raise WeightsError("this is a detector of masks or keypoints, for which there is no head")
    if "roi_heads.box_head.5.weight" not in tensors:
        raise WeightsError(
            "this is the first version of Faster R-CNN of torchvision, whose batch norm divides otherwise; only "
            "the second, fasterrcnn_resnet50_fpn_v2, can be loaded"
        )
    names = _class_names(len(tensors[SECOND_STAGE]), class_names)
    # Class 0 is the background, which both second stages have.
    layers = {"cls_score": 1, "bbox_pred": 4}
    chosen = {
        f"box_predictor.{layer}.{kind}": ClassRows(names.all[1:], each=each, before=1)
        for layer, each in layers.items()
        for kind in ("weight", "bias")
    }
    renamed = {n: n.removeprefix("roi_heads.") for n in tensors if n.startswith("roi_heads.")}
    renamed |= {
        n: f"rpn.{n.removeprefix('rpn.head.')}" for n in tensors if n.startswith("rpn.head.")
    }
    return _published(tensors, "faster_rcnn_v2", "fasterrcnn_{}_fpn_v2", names, chosen, renamed)


def _ssd(
    tensors: Mapping[str, Tensor], class_names: Sequence[str], head: str, called: str
) -> Published:
    last = ".1" if head == "ssdlite" else ""
    layers = {
        n.removesuffix(".weight")
        for n in tensors
        if n.startswith("head.classification_head.module_list.")
        and n.removesuffix(".weight").endswith(last)
        and n.count(".") == 4 + bool(last)
        and n.endswith(".weight")
    }
    boxes = {n.replace("classification", "regression"): n for n in layers}
    per_cell = {n: len(tensors[f"{box}.weight"]) // 4 for box, n in boxes.items()}
    first = min(per_cell)
    names = _class_names(len(tensors[f"{first}.weight"]) // per_cell[first], class_names)
    chosen = {
        f"{layer}.{kind}": ClassRows(names.all[1:], groups=count, before=1)
        for layer, count in per_cell.items()
        for kind in ("weight", "bias")
    }
    given = {n: t for n, t in tensors.items() if n.startswith("head.")}
    return Published(
        f"{called} of torchvision",
        f"torchvision_detection/{called}",
        {"head": head, "class_names": names.used},
        {n: t for n, t in tensors.items() if n.startswith("backbone.")},
        {n: _rows(t, chosen[n], names.used) if n in chosen else t for n, t in given.items()},
    )


def _published(
    tensors: Mapping[str, Tensor],
    head: str,
    called: str,
    names: _Classes,
    chosen: Mapping[str, ClassRows],
    renamed: Mapping[str, str],
) -> Published:
    """Describe a detector with a pyramid on a residual network."""
    body = {n.removeprefix(BODY): t for n, t in tensors.items() if n.startswith(BODY)}
    network = residual_name(body)
    if network is None:
        raise WeightsError(
            f"this is {called.format('...')} of torchvision on a network that is not a ResNet, for which there are "
            "no name rules"
        )
    given = {
        f"pyramid.pyramid.{n.removeprefix(PYRAMID)}": t
        for n, t in tensors.items()
        if n.startswith(PYRAMID)
    } | {new: tensors[n] for n, new in renamed.items()}
    options: dict[str, Any] = {
        "head": head,
        "width": len(tensors[f"{PYRAMID}layer_blocks.0.0.weight"]),
        "class_names": names.used,
    }
    return Published(
        f"{called.format(network)} of torchvision",
        f"torchvision/{network}",
        options,
        body,
        {n: _rows(t, chosen[n], names.used) if n in chosen else t for n, t in given.items()},
        size=SIZE,
    )


@dataclass(frozen=True)
class _Classes:
    """The classes of a checkpoint.

    Attributes:
        all: One for each that it scores, those without a name included.
        used: Those with a name.
    """

    all: tuple[str, ...]
    used: tuple[str, ...]


def _class_names(count: int, given: Sequence[str]) -> _Classes:
    """Name the classes that a checkpoint scores.

    Args:
        count: How many it scores; class 0 is torchvision's background.
        given: The names that the user passes, if any.

    Raises:
        WeightsError: They are not known, or of another number.
    """
    from torchvision.models.detection import FCOS_ResNet50_FPN_Weights

    published = FCOS_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    if given and len(given) == count - 1:
        return _Classes((NO_CLASS[0], *given), tuple(given))
    if given and len(given) == count:
        return _Classes(tuple(given), tuple(given))
    if count != len(published):
        raise WeightsError(
            f"the checkpoint scores {count} classes, the background included; pass class_names with the "
            f"{count - 1} others in the order of their labels"
        )
    # Labels of COCO that were never used have no name; each gets one that no class has.
    every = tuple(f"{n} {i}" if n in NO_CLASS else n for i, n in enumerate(published))
    return _Classes(every, tuple(n for n in published if n not in NO_CLASS))


def _rows(tensor: Tensor, rows: ClassRows, used: Sequence[str]) -> Tensor:
    """Select the rows of the classes that have a name, and of what precedes them."""
    position = {name: i for i, name in enumerate(rows.names)}
    chosen = [*range(-rows.before, 0), *(position[name] for name in used)]
    block: Tensor = tensor.unflatten(0, (rows.groups, rows.before + len(rows.names), rows.each))
    picked: Tensor = block[:, torch.tensor(chosen) + rows.before]
    return picked.flatten(0, 2)
