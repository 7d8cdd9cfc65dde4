"""Augmentation by transforms of albumentations, which take arrays and draw from generators of their own."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from visiongraft.errors import OptionError

Parts = dict[str, Any]

BOX_PARAMS = "bbox_params=albumentations.BboxParams(format='pascal_voc')"


def is_of_albumentations(function: object) -> bool:
    """Check whether a transform is of albumentations, which is not imported for that."""
    library: Any = sys.modules.get("albumentations")
    return library is not None and isinstance(
        function, (library.BaseCompose, library.BasicTransform)
    )


def augment_by_albumentations(transform: Any, image: Tensor, parts: Parts) -> tuple[Tensor, Parts]:
    """Augment an image, and the masks, boxes and images that move with it.

    The generators of the transform are seeded from torch's, which is seeded for each sample.

    Args:
        transform: A transform or a composition of them.
        image: uint8 (C, H, W).
        parts: What moves, see ``Task.augmentable``.

    Returns:
        The image and the parts.

    Raises:
        OptionError: The transform does not take such parts.
    """
    if image.ndim != 3:
        raise OptionError("augment: albumentations takes images; pass a transform of torchvision")
    seed = int(torch.randint(2**32, (), dtype=torch.int64))
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
    masks = [name for name, part in parts.items() if isinstance(part, tv_tensors.Mask)]
    images = [name for name, part in parts.items() if isinstance(part, tv_tensors.Image)]
    boxes = [name for name, part in parts.items() if isinstance(part, tv_tensors.BoundingBoxes)]
    given = {"image": _to_array(image)}
    if masks:
        given["masks"] = [_to_array(parts[name]) for name in masks]
    for name in images:
        given[name] = _additional(transform, name, parts[name])
    if boxes:
        given |= _box_arguments(transform, boxes, parts)
    found = transform(**given)
    moved = {**parts, **{name: _to_planes(found[name], parts[name]) for name in images}}
    for name, mask in zip(masks, found.get("masks", ()), strict=True):
        moved[name] = _to_planes(mask, parts[name])
    pixels = _to_planes(found["image"], image)
    for name in boxes:
        moved |= _boxes_left(name, parts, found["bboxes"], (pixels.shape[-2], pixels.shape[-1]))
    return pixels, moved


def _to_array(planes: Tensor) -> Any:
    """Return (H, W) or (C, H, W) as an array (H, W) or (H, W, C)."""
    ordered = planes if planes.ndim == 2 else planes.permute(1, 2, 0)
    return np.ascontiguousarray(ordered.as_subclass(Tensor).numpy())


def _to_planes(array: Any, like: Tensor) -> Tensor:
    values = torch.from_numpy(np.ascontiguousarray(array))
    if like.ndim == 2:
        return values.to(like.dtype) if values.dtype != torch.uint8 else values
    return values.reshape(*values.shape[:2], -1).permute(2, 0, 1)


def _additional(transform: Any, name: str, image: Tensor) -> Any:
    """Return an image beside the first as an array, if the transform knows it."""
    if name not in (getattr(transform, "additional_targets", None) or {}):
        raise OptionError(
            f"augment: targets are images, too; pass Compose(..., additional_targets={{{name!r}: 'image'}})"
        )
    return _to_array(image)


def _box_arguments(transform: Any, names: list[str], parts: Parts) -> dict[str, Any]:
    """Return boxes with their row as a further column, and class ids for the fields that are asked for."""
    processor = getattr(transform, "processors", {}).get("bboxes")
    if processor is None or processor.params.format != "pascal_voc":
        raise OptionError(
            f"augment: targets are boxes, corners in pixels; pass Compose(..., {BOX_PARAMS})"
        )
    if len(names) > 1:
        raise OptionError("augment: albumentations moves the boxes of one head, not of several")
    boxes = parts[names[0]].as_subclass(Tensor).double().numpy()
    rows = np.arange(len(boxes), dtype=np.float64)[:, None]
    ids = parts[_labels_of(names[0])].tolist()
    fields = processor.params.label_fields or ()
    return {"bboxes": np.concatenate([boxes, rows], axis=1), **dict.fromkeys(fields, ids)}


def _boxes_left(name: str, parts: Parts, boxes: Any, size: tuple[int, int]) -> Parts:
    """Return the boxes that are left in an image of a height and width, and their class ids."""
    found = torch.from_numpy(np.asarray(boxes, dtype=np.float64).reshape(-1, 5))
    labels = _labels_of(name)
    corners = found[:, :4].float()
    return {
        name: tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=size),
        labels: parts[labels][found[:, 4].round().long()],
    }


def _labels_of(boxes: str) -> str:
    """Return the name of the class ids of boxes: both of a head have its name before them."""
    return f"{boxes.removesuffix('boxes')}labels"
