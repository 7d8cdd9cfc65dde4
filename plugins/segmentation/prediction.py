"""Typed masks. Imports numpy and Pillow only: a deployed model needs no PyTorch."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visiongraft.errors import ArtifactError, name_some
from visiongraft.html import html_figure, html_table
from visiongraft.pages.parts import data_uri

SHOWN = 8  # classes in a notebook
NAMED = 8  # classes in one line
SIDE = 320  # of the mask in a notebook, in pixels


@dataclass(frozen=True, eq=False)
class Segmented:
    """The predicted mask of one image.

    The mask is not a dataclass field, so that a prediction stays small as JSON; ``files`` encodes
    it as image files.

    Attributes:
        height: Image height in pixels.
        width: Image width in pixels.
        largest: The class with the most pixels; empty if no pixel has a class.
        fractions: The fraction of pixels of each class, in 0..1, in the order of the class ids.
        mask: Class ids, uint8 or int32 (height, width); for a multi-label model uint8
            (classes, height, width) of 0 and 1.
        probabilities: Probability of each class at each pixel, float32 (classes, height, width),
            of the foreground alone for a binary model; ``None`` unless the model returns them.
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
        """The probability of each class at each pixel, if the model returns them."""
        probabilities: NDArray[np.float32] | None = self.__dict__["_probabilities"]
        return probabilities

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names by id."""
        return tuple(self.fractions)

    def summary(self) -> str:
        """Name the classes by the part of the image that they take, the largest first.

        Examples:
            >>> arrays = {"labels": np.array([[[0, 1, 1, 1]]])}
            >>> names = {"class_names": ["sky", "road", "car"], "kind": "multi_class"}
            >>> predictions(arrays, names)[0].summary()
            'road 75%, sky 25%'
        """
        found = sorted(self.fractions.items(), key=lambda item: -item[1])
        named = [
            f"{name} {part:.0%}" if part >= 0.005 else f"{name} <1%" for name, part in found if part
        ]
        return name_some(named, NAMED) or "no class"

    def files(self) -> dict[str, bytes]:
        """Encode the mask as PNG files whose pixel values are class ids.

        Returns:
            ``mask.png`` with a palette (16-bit grayscale above 255 classes) or, for a multi-label
            model, one black and white file per class. The keys are suffixes for the image's name.
        """
        if self.mask.ndim == 2:
            return {"mask.png": _png(self.mask, len(self.fractions))}
        return {
            f"mask-{i}-{re.sub(r'[^A-Za-z0-9]+', '_', name)}.png": _png(layer * 255, 0)
            for i, (name, layer) in enumerate(zip(self.class_names, self.mask, strict=True))
        }

    def painted(self) -> NDArray[np.uint8]:
        """Return the mask in the colors of its classes, uint8 (height, width, 3); of several labels the last."""
        colors = class_colors(len(self.class_names))
        if self.mask.ndim == 2:
            return np.asarray(colors[self.mask])
        found = np.zeros((self.height, self.width, 3), np.uint8)
        for layer, color in zip(self.mask, colors, strict=True):
            found[layer == 1] = color
        return found

    def _repr_html_(self) -> str:
        colors = class_colors(len(self.class_names))
        rows = [
            (name, fraction, f"#{bytes(color).hex()}")
            for (name, fraction), color in zip(self.fractions.items(), colors, strict=True)
            if fraction
        ]
        rows.sort(key=lambda row: -row[1])
        words = f"{self.width} x {self.height} pixels, mostly {self.largest or 'without a class'}"
        image = html_figure(data_uri(self.painted(), SIDE), words, kept_pixels=True)
        return image + html_table(["class", "fraction", "color"], rows[:SHOWN])


def predictions(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> list[Segmented]:
    """Convert a batch of decoded outputs to predictions.

    Args:
        arrays: ``labels``, integers (N, H, W), or (N, C, H, W) of 0 and 1 for a multi-label model,
            and optionally ``probabilities``, float (N, C, H, W).
        metadata: ``class_names``, the C class names, and ``kind``.

    Returns:
        One prediction per image.

    Raises:
        ArtifactError: The arrays do not match the class names.

    Examples:
        >>> arrays = {"labels": np.array([[[0, 1, 1, 1]]])}
        >>> predictions(arrays, {"class_names": ["sky", "road"], "kind": "multi_class"})
        [Segmented(height=1, width=4, largest='road', fractions={'sky': 0.25, 'road': 0.75})]
    """
    names = list(metadata["class_names"])
    multi_label = metadata["kind"] == "multi_label"
    masks = arrays["labels"]
    top = 2 if multi_label else len(names)
    if masks.ndim != (4 if multi_label else 3) or (multi_label and masks.shape[1] != len(names)):
        raise ArtifactError(
            f"the model returns masks of shape {masks.shape} for {len(names)} classes; its file or folder is "
            "damaged"
        )
    if masks.size and (masks.min() < 0 or masks.max() >= top):
        raise ArtifactError(
            f"the model returns class id {masks.max()} for {len(names)} classes; its file or "
            "folder is damaged"
        )
    chances = arrays.get("probabilities", [None] * len(masks))
    return [_segmented(mask, own, names) for mask, own in zip(masks, chances, strict=True)]


def class_colors(count: int) -> NDArray[np.uint8]:
    """Return a distinct color per class, for masks, overlays and legends.

    Neighboring ids get distant hues, by steps of the golden angle.

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
            image.putpalette(class_colors(classes).tobytes())
    else:
        image = Image.fromarray(mask.astype(np.uint16))
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()
