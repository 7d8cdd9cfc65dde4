"""Augmentation of training images together with their boxes, by torchvision's transforms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from visiongraft.errors import OptionError
from visiongraft.plugins.detection.models.anchors import LETTERBOX
from visiongraft.plugins.detection.objects import Objects, shown_sizes
from visiongraft.preprocess import Preprocess, PreprocessConfig

AUGMENTATIONS = ("none", "light", "strong")
SMALLEST = 1.0  # pixel; boxes of which less is left are dropped
OVERSIZE = 2  # images are first shrunk to at most so many times the size of the network input


class TrainTransform:
    """Crop, flip and change colors of an image, and transform its boxes accordingly.

    ``"light"`` zooms out half of the images onto a gray canvas up to 1.4 times as wide, crops half
    of them to no less than 70 % of a side, flips, and changes brightness, contrast and saturation
    by up to 20 %. ``"strong"`` is SSD's augmentation (Liu et al., 2016): a canvas up to three times
    as wide, crops that keep a random fraction of some object, and color distortion. Colors are
    changed only in images of 3 channels.

    Args:
        preprocess: Height and width to produce, and whether the aspect ratio is kept.
        strength: ``"light"`` or ``"strong"``.
        flip: Mirror half of the images, left to right.
    """

    def __init__(self, preprocess: PreprocessConfig, strength: str, flip: bool = True) -> None:
        strong = strength == "strong"
        self.size = preprocess.size
        self.letterbox = preprocess.resize == LETTERBOX
        # Light crops only keep the center of some object. Those that keep a fraction of it enlarge
        # objects far more often than zooming out makes them smaller.
        steps: list[Any] = [
            v2.RandomZoomOut(fill=128, side_range=(1.0, 3.0 if strong else 1.4)),
            v2.RandomIoUCrop(trials=20)
            if strong
            else v2.RandomIoUCrop(min_scale=0.7, sampler_options=[0.0, 1.0], trials=20),
            *([_FillUp(preprocess)] if self.letterbox else []),
            v2.Resize(self.size, antialias=True),
        ]
        if flip:
            steps.append(v2.RandomHorizontalFlip())
        # Rounding may put a box slightly outside, which the last step would reject as invalid.
        steps += [v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes(min_size=SMALLEST)]
        self._geometry = v2.Compose(steps)
        self._colors = (
            v2.RandomPhotometricDistort()
            if strong
            else v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)
        )

    def __call__(self, image: Any, target: Objects) -> tuple[Any, Objects]:
        """Transform one image.

        Args:
            image: ``tv_tensors.Image``, uint8 (C, H, W).
            target: The objects in it.

        Returns:
            The image, uint8 (C, height, width), and its objects without crowd regions.
        """
        sample = self._shrunk({"image": image, **box_parts(target, image.shape[-2:])})
        sample = self._geometry(sample)
        image = sample["image"]
        if image.shape[-3] == 3:
            image = self._colors(image)
        return image, _objects(sample["boxes"], sample["labels"], self.size)

    def _shrunk(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Shrink large images first, since every further step takes time per pixel."""
        height, width = sample["image"].shape[-2:]
        factors = [
            min(1.0, OVERSIZE * self.size[0] / height),
            min(1.0, OVERSIZE * self.size[1] / width),
        ]
        if self.letterbox:
            factors = [min(factors)] * 2
        size = [max(1, round(height * factors[0])), max(1, round(width * factors[1]))]
        if size == [height, width]:
            return sample
        sample["image"] = F.resize(sample["image"], size, antialias=True)
        sample["boxes"] = F.resize(sample["boxes"], size)
        return sample


def box_parts(target: Objects, size: Sequence[int]) -> dict[str, Any]:
    """Return the boxes and class ids of objects, without crowd regions, for transforms.

    Args:
        target: The objects.
        size: Height and width of their image.
    """
    own = target.single()
    boxes = tv_tensors.BoundingBoxes(
        torch.tensor(own.boxes, dtype=torch.float32).view(-1, 4),
        format="XYXY",
        canvas_size=own.size if own.boxes else tuple(size),
    )
    return {"boxes": boxes, "labels": torch.tensor(own.labels, dtype=torch.int64)}


def objects_of(
    parts: Mapping[str, Any], size: tuple[int, int], preprocess: PreprocessConfig
) -> Objects:
    """Return the objects in an image that is going to be resized.

    Args:
        parts: ``boxes`` and ``labels`` as transforms return them.
        size: Height and width of the image.
        preprocess: How it is resized, to the pixels that the objects are returned in.

    Raises:
        OptionError: There is not one class id for each box.
    """
    boxes, labels = parts.get("boxes"), torch.as_tensor(parts.get("labels"))
    if not isinstance(boxes, tv_tensors.BoundingBoxes) or len(boxes) != len(labels):
        raise OptionError(
            "augment returned no tv_tensors.BoundingBoxes as boxes, or not as many as labels; drop boxes by "
            "SanitizeBoundingBoxes, which drops their labels, too"
        )
    boxes = F.clamp_bounding_boxes(F.convert_bounding_box_format(boxes, new_format="XYXY"))
    corners = boxes.as_subclass(torch.Tensor)
    network = torch.tensor(preprocess.size)
    whole = size == tuple(preprocess.size)  # it is not filled up then
    shown = shown_sizes(torch.tensor(size), network, preprocess.resize == LETTERBOX and not whole)
    corners = corners * (network / shown).flip(0).repeat(2)
    kept = (corners[:, 2:] - corners[:, :2] >= SMALLEST).all(1)
    return _objects(corners[kept], labels[kept], (preprocess.size[0], preprocess.size[1]))


def _objects(boxes: torch.Tensor, labels: torch.Tensor, size: tuple[int, int]) -> Objects:
    kept = [tuple(box) for box in boxes.tolist()]
    areas = tuple((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in kept)
    return Objects(tuple(kept), tuple(labels.tolist()), size, (False,) * len(kept), areas)


class _FillUp:
    """Fill images up to the aspect ratio of the network's input, as ``Preprocess`` does.

    Args:
        preprocess: The size of the input, and the mean color.
    """

    def __init__(self, preprocess: PreprocessConfig) -> None:
        self.preprocess = Preprocess(preprocess)
        self.fill = [round(255 * mean) for mean in preprocess.mean]

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        below, right = self.preprocess.filled(*sample["image"].shape[-2:])
        sides = [0, 0, right, below]
        image = F.pad(sample["image"], sides, fill=self.fill)
        return {**sample, "image": image, "boxes": F.pad(sample["boxes"], sides)}
