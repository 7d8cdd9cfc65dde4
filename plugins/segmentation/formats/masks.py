"""Convert mask files and arrays to class ids with one lookup table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from visiongraft.data.decode import open_image, printable, read_file, upright
from visiongraft.errors import DataError, name_some

Mask = NDArray[Any]
Color = tuple[int, int, int]

IGNORED = -1
UNKNOWN = -2
IGNORED_VALUE = 255  # the value of unlabeled pixels in nearly all datasets
MAX_UINT8_CLASSES = 255  # more class ids do not fit into a byte beside that of ignored pixels
MAX_SHOWN = 5
_GRAY_MODES = ("1", "L")


def ignored_id(classes: int) -> int:
    """Return the id of ignored pixels.

    Args:
        classes: Number of classes.

    Returns:
        255, or 65535 for more than 255 classes.
    """
    return IGNORED_VALUE if classes <= MAX_UINT8_CLASSES else 65_535


@dataclass(frozen=True)
class MaskReader:
    """Reads the masks of one dataset as class ids.

    Attributes:
        classes: Number of classes.
        ids: The class id of each mask value, ``IGNORED`` or ``UNKNOWN``; larger values are unknown.
            With ``colors``, the class id of each color.
        colors: The colors of color masks; empty for masks of values.
        gray_colors: Whether the values of gray masks are colors of ``colors``, not their indices.
        multi_label: Whether an image has one mask per class.
    """

    classes: int
    ids: tuple[int, ...]
    colors: tuple[Color, ...] = ()
    multi_label: bool = False
    gray_colors: bool = False

    def read(self, raw: Any, image: str) -> Mask:
        """Read the mask of one image.

        Args:
            raw: A path, an array (H, W), a tensor, a ``tv_tensors.Mask`` or a PIL image. With
                ``multi_label``, one for each class, or an array (C, H, W).
            image: Name of the image, for messages.

        Returns:
            Class ids (H, W), uint8 with 255 for ignored pixels, or int32 with 65535 for more than
            255 classes. With ``multi_label``, uint8 (C, H, W) of 0, 1 and 255.

        Raises:
            DataError: The mask is missing, cannot be read, or contains unknown values.
        """
        if not self.multi_label:
            return self._read_one(raw, image)
        layers = _layers(raw, image)
        if len(layers) != self.classes:
            raise DataError(f"{image}: has {len(layers)} masks for {self.classes} classes")
        masks = [self._read_one(layer, image) for layer in layers]
        if len({mask.shape for mask in masks}) > 1:
            sizes = name_some(sorted({_size(mask) for mask in masks}))
            raise DataError(f"{image}: its masks have different sizes: {sizes}")
        return np.stack(masks)

    def _read_one(self, raw: Any, image: str) -> Mask:
        name = describe_mask(raw, image)
        values = load_values(raw, image, self.colors, self.gray_colors)
        top = int(values.max(initial=0))
        if values.min(initial=0) < 0 or top >= len(self._table):
            raise DataError(self._unknown_values(np.unique(values), name))
        found = np.flatnonzero(np.bincount(values.ravel(), minlength=top + 1))
        if (self._table[found] == UNKNOWN).any():
            raise DataError(self._unknown_values(found, name))
        if self.multi_label and (self._table[found] == 1).sum() > 1:
            raise DataError(
                f"{name}: contains both 1 and 255; set ignore=255 if those pixels are to be ignored"
            )
        ids: Mask = self._lookup[values]
        return ids

    def _unknown_values(self, found: Mask, name: str) -> str:
        known = {value for value, id in enumerate(self.ids) if id != UNKNOWN}
        unknown = name_some([str(value) for value in found if value not in known], MAX_SHOWN)
        expected = name_some([str(value) for value in sorted(known)], 12)
        return f"{name}: contains values that are not classes: {unknown}; expected {expected}"

    @cached_property
    def _table(self) -> Mask:
        table = np.full(max(256, len(self.ids)), UNKNOWN, np.int32)
        table[: len(self.ids)] = self.ids
        return table

    @cached_property
    def _lookup(self) -> Mask:
        ignored = ignored_id(2 if self.multi_label else self.classes)
        ids = np.where(self._table < 0, ignored, self._table)
        return ids.astype(np.uint8 if ignored == IGNORED_VALUE else np.int32)


def describe_mask(raw: Any, image: str) -> str:
    """Return a mask's file and image, for messages."""
    return f"{printable(raw)} (mask of {image})" if isinstance(raw, Path) else f"{image}, mask"


def load_values(
    raw: Any, image: str, colors: Sequence[Color] = (), gray_colors: bool = False
) -> Mask:
    """Load the values of one mask.

    Args:
        raw: See ``MaskReader.read``.
        image: Name of the image, for messages.
        colors: Known colors, in the order of their values.
        gray_colors: Whether the values of gray masks are colors, too.

    Returns:
        Integers (H, W); for a color mask the indices of its colors.

    Raises:
        DataError: There is no mask, it cannot be read, or it contains an unknown color.
    """
    name = describe_mask(raw, image)
    if isinstance(raw, str | Path):
        if not Path(raw).is_file():
            raise DataError(f"{image}: has no mask; {printable(raw)} does not exist")
        with open_image(read_file(Path(raw)), name) as opened:
            return _from_pillow(upright(opened), colors, gray_colors)
    if isinstance(raw, PillowImage.Image):
        try:
            return _from_pillow(raw, colors, gray_colors)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
    if hasattr(raw, "detach"):
        raw = raw.detach().cpu().numpy()
    if not isinstance(raw, np.ndarray):
        kind = type(raw).__name__
        raise DataError(f"{name}: must be a path, array, tensor or PIL image, not {kind}")
    return _from_array(np.asarray(raw), name)


def gray_levels(path: Path) -> set[int]:
    """Return the gray levels in a mask file that is a gray image; none if it is not.

    Args:
        path: The file.

    Raises:
        DataError: It cannot be read.
    """
    with open_image(read_file(path), printable(path)) as opened:
        if opened.mode not in _GRAY_MODES:
            return set()
        return set(np.unique(np.array(opened.convert("L"))).tolist())


def _from_pillow(image: PillowImage.Image, colors: Sequence[Color], gray_colors: bool) -> Mask:
    """Return the raw values; for palette images the indices, not the colors."""
    mode = image.mode
    if gray_colors and mode in _GRAY_MODES:
        return _color_indices(np.array(image.convert("RGB")), colors)
    if colors and mode == "P":
        listed = image.getpalette("RGB") or []
        palette = np.array([*listed, *[0] * (768 - len(listed))], np.uint8).reshape(-1, 3)
        indices = np.array(image)
        used = np.unique(indices)
        table: Mask = np.zeros(256, np.int64)
        table[used] = _color_indices(palette[used], colors)
        values: Mask = table[indices]
        return values
    if mode in ("1", "L", "P") or mode.startswith("I"):
        values = np.array(image)
        return values.astype(np.uint8) if mode == "1" else values
    if mode not in ("RGB", "RGBA", "LA"):
        raise DataError(f"a mask contains integers or colors, not Pillow's mode {mode}")
    pixels = np.array(image.convert("RGB"))
    if colors:
        return _color_indices(pixels, colors)
    if (pixels == pixels[..., :1]).all():
        gray: Mask = pixels[..., 0]
        return gray
    raise DataError(
        "is a color image; define its colors in a file label_colors.txt with lines like: "
        "128 64 128 road"
    )


def _color_indices(pixels: NDArray[np.uint8], colors: Sequence[Color]) -> Mask:
    """Return the index of each pixel's color (..., 3) among the known colors."""
    keys = _pack_rgb(np.array(colors, np.uint8).reshape(-1, 3))
    order = np.argsort(keys)
    packed = _pack_rgb(pixels)
    found = order[np.searchsorted(keys, packed, sorter=order).clip(max=len(keys) - 1)]
    unknown = packed[keys[found] != packed]
    if unknown.size:
        shown = [str((int(k) >> 16, int(k) >> 8 & 255, int(k) & 255)) for k in np.unique(unknown)]
        raise DataError(
            f"contains colors that are not classes: {name_some(shown, MAX_SHOWN)}; add them to the "
            "color map, or save masks losslessly (PNG)"
        )
    indices: Mask = found
    return indices


def _pack_rgb(colors: NDArray[np.uint8]) -> Mask:
    wide = colors.astype(np.int64)
    keys: Mask = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    return keys


def _from_array(array: Mask, name: str) -> Mask:
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[-1]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    if array.ndim != 2 or not array.size:
        raise DataError(f"{name}: must have the shape (height, width), not {array.shape}")
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    if array.dtype.kind == "f" and (array == np.floor(array)).all():
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise DataError(f"{name}: must contain integers, not fractional {array.dtype}")
    return array if array.dtype == np.uint8 else array.astype(np.int64)


def _layers(raw: Any, image: str) -> list[Any]:
    if isinstance(raw, list | tuple) or getattr(raw, "ndim", 0) == 3:
        return list(raw)
    raise DataError(f"{image}: needs one mask per class, such as an array (classes, H, W)")


def _size(mask: Mask) -> str:
    return f"{mask.shape[-2]}x{mask.shape[-1]}"
