"""Typed masks; numpy and Pillow only, so that a deployed model needs no PyTorch."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visiongraft.errors import ArtifactError


@dataclass(frozen=True, eq=False)
class Segmented:
    """What every pixel of an image shows.

    The mask itself is no field, so that a prediction stays small as JSON; ``files`` gives it as a
    image file.

    Attributes:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        largest: The class with the most pixels; empty where nothing was found.
        fractions: The share of pixels of each class, in 0..1, in the order of the label map.
        mask: Class ids, uint8 or int32 (height, width); of a multi-label model uint8
            (classes, height, width) of 0 and 1.
        probabilities: Of each class at each pixel, float32 (classes, height, width), of a binary
            model of its second class alone; ``None`` unless the model was asked to give them.
    """

    height: int
    width: int
    largest: str
    fractions: dict[str, float]
    pixels: InitVar[NDArray[Any]]
    chances: InitVar[NDArray[np.float32] | None]

    def __post_init__(self, pixels: NDArray[Any], chances: NDArray[np.float32] | None) -> None:
        object.__setattr__(self, "_mask", pixels)
        object.__setattr__(self, "_probabilities", chances)

    @property
    def mask(self) -> NDArray[Any]:
        """The class of each pixel."""
        mask: NDArray[Any] = self.__dict__["_mask"]
        return mask

    @property
    def probabilities(self) -> NDArray[np.float32] | None:
        """The probability of each class at each pixel, if the model gives them."""
        found: NDArray[np.float32] | None = self.__dict__["_probabilities"]
        return found

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, by id."""
        return tuple(self.fractions)

    def files(self) -> dict[str, bytes]:
        """Give the mask as PNG files, whose pixels are class ids.

        Returns:
            ``mask.png`` with a palette (16-bit gray above 255 classes), or of a multi-label model
            one file a class, black and white. The keys are endings for the image's name.
        """
        if self.mask.ndim == 2:
            return {"mask.png": _png(self.mask, len(self.fractions))}
        return {
            f"mask-{i}-{re.sub(r'[^A-Za-z0-9]+', '_', name)}.png": _png(layer * 255, 0)
            for i, (name, layer) in enumerate(zip(self.labels, self.mask, strict=True))
        }


def predictions(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> list[Segmented]:
    """Give class names to a batch of decoded outputs.

    Args:
        arrays: ``labels``, whole numbers (N, H, W), of a multi-label model (N, C, H, W) of 0 and
            1, and maybe ``probabilities``, float (N, C, H, W).
        metadata: ``labels``, the C class names, and ``kind``.

    Returns:
        One prediction per image.

    Raises:
        ArtifactError: The arrays do not fit the class names.

    Examples:
        >>> arrays = {"labels": np.array([[[0, 1, 1, 1]]])}
        >>> predictions(arrays, {"labels": ["sky", "road"], "kind": "multi_class"})
        [Segmented(height=1, width=4, largest='road', shares={'sky': 0.25, 'road': 0.75})]
    """
    names = list(metadata["labels"])
    several = metadata["kind"] == "multi_label"
    masks = arrays["labels"]
    top = 2 if several else len(names)
    if masks.ndim != (4 if several else 3) or (several and masks.shape[1] != len(names)):
        raise ArtifactError(
            f"the model gives masks {masks.shape} for {len(names)} classes; its file or folder is "
            "damaged"
        )
    if masks.size and (masks.min() < 0 or masks.max() >= top):
        raise ArtifactError(
            f"the model decides on class id {masks.max()} for {len(names)} classes; its file or "
            "folder is damaged"
        )
    chances = arrays.get("probabilities", [None] * len(masks))
    return [_segmented(mask, own, names) for mask, own in zip(masks, chances, strict=True)]


def class_colors(count: int) -> NDArray[np.uint8]:
    """Give each class a color of its own, the same for masks, overlays and legends.

    Neighboring ids get hues far from each other, by steps of the golden angle.

    Args:
        count: Number of classes.

    Returns:
        uint8 (count, 3), RGB.
    """
    from colorsys import hsv_to_rgb

    rows = []
    for i in range(count):
        hue, turn = (0.03 + i * 0.618034) % 1, i // 8 % 3
        rows.append(hsv_to_rgb(hue, (0.85, 0.55, 0.95)[turn], (0.95, 0.9, 0.6)[turn]))
    return (np.array(rows).reshape(-1, 3) * 255).round().astype(np.uint8)


def _segmented(mask: NDArray[Any], chances: Any, names: Sequence[str]) -> Segmented:
    if mask.ndim == 3:
        counts = mask.reshape(len(names), -1).sum(1, dtype=np.int64)
    else:
        counts = np.bincount(mask.ravel(), minlength=len(names))
    height, width = mask.shape[-2:]
    fractions = {n: int(c) / (height * width) for n, c in zip(names, counts, strict=True)}
    largest = names[int(counts.argmax())] if counts.any() else ""
    return Segmented(height, width, largest, fractions, mask, chances)


def _png(mask: NDArray[Any], classes: int) -> bytes:
    if mask.dtype == np.uint8:
        image = Image.fromarray(mask)
        if classes:
            image = image.convert("P") if image.mode != "L" else image
            image.putpalette(class_colors(classes).tobytes())
    else:
        image = Image.fromarray(mask.astype(np.uint16))
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()
