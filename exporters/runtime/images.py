"""Whatever a user calls images, as arrays; without PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from visiongraft.data.decode import decode_file, printable, to_array
from visiongraft.data.listing import list_images
from visiongraft.errors import DataError, one_line

Image = str | Path | NDArray[np.uint8] | PillowImage.Image


def each_image(images: Any) -> Iterator[Any]:
    """Give images one by one, also if there is only one.

    Args:
        images: One image, a folder, an array (N, H, W, C), or an iterable of images.

    Returns:
        The images, neither read nor checked.

    Raises:
        DataError: The folder holds none.
    """
    if isinstance(images, np.ndarray):
        return iter(images if images.ndim > 3 else [images])
    if isinstance(images, str | Path) and Path(images).is_dir():
        found = list_images(Path(images))
        if not found:
            raise DataError(f"{printable(images)} holds no images")
        return iter(found)
    one = isinstance(images, str | PillowImage.Image) or not isinstance(images, Iterable)
    return iter([images] if one else images)


def name_of(image: Any, position: int) -> str:
    """Give an image's path, or its position."""
    return printable(image) if isinstance(image, str | Path) else f"image {position}"


def as_array(image: Any, name: str, channels: int) -> NDArray[np.uint8]:
    """Decode or check one image.

    Args:
        image: A path, a PIL image, or an array uint8 (H, W, channels) or (H, W).
        name: What to call it in messages.
        channels: How many to give.

    Returns:
        uint8 (H, W, channels).

    Raises:
        DataError: It is none of these, or cannot be decoded.
    """
    if isinstance(image, str | Path):
        return decode_file(Path(image), channels)
    if isinstance(image, PillowImage.Image):
        try:
            return to_array(image, channels)
        except Exception as error:  # pillow decodes only now, and raises anything
            raise DataError(f"{name}: {one_line(error)}") from error
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size:
        if image.ndim == 2:
            return np.repeat(image[..., None], channels, axis=2)
        if image.ndim == 3 and image.shape[2] == channels:
            return image
    raise DataError(
        f"{name} is {described(image)}; give a path, a PIL image or an array "
        f"uint8 (height, width, {channels})"
    )


def described(value: Any) -> str:
    """Say what kind of thing something is, for messages."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return f"a {type(value).__name__}"
