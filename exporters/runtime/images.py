"""Whatever a user calls pictures, as arrays; without PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from visiongraft.data.decode import decode_file, printable, to_array
from visiongraft.data.listing import list_pictures
from visiongraft.errors import DataError
from visiongraft.exporters.runtime.capture import one_line

Picture = str | Path | NDArray[np.uint8] | PillowImage.Image


def each_picture(pictures: Any) -> Iterator[Any]:
    """Give pictures one by one, also if there is only one.

    Args:
        pictures: One picture, a folder, an array (N, H, W, C), or an iterable of pictures.

    Returns:
        The pictures, neither read nor checked.

    Raises:
        DataError: The folder holds none.
    """
    if isinstance(pictures, np.ndarray):
        return iter(pictures if pictures.ndim > 3 else [pictures])
    if isinstance(pictures, str | Path) and Path(pictures).is_dir():
        found = list_pictures(Path(pictures))
        if not found:
            raise DataError(f"{printable(pictures)} holds no pictures")
        return iter(found)
    one = isinstance(pictures, str | PillowImage.Image) or not isinstance(pictures, Iterable)
    return iter([pictures] if one else pictures)


def name_of(picture: Any, position: int) -> str:
    """Give a picture's path, or its position."""
    return printable(picture) if isinstance(picture, str | Path) else f"picture {position}"


def as_array(picture: Any, name: str, channels: int) -> NDArray[np.uint8]:
    """Decode or check one picture.

    Args:
        picture: A path, a PIL image, or an array uint8 (H, W, channels) or (H, W).
        name: What to call it in messages.
        channels: How many to give.

    Returns:
        uint8 (H, W, channels).

    Raises:
        DataError: It is none of these, or cannot be decoded.
    """
    if isinstance(picture, str | Path):
        return decode_file(Path(picture), channels)
    if isinstance(picture, PillowImage.Image):
        try:
            return to_array(picture, channels)
        except Exception as error:  # pillow decodes only now, and raises anything
            raise DataError(f"{name}: {one_line(error)}") from error
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.size:
        if picture.ndim == 2:
            return np.repeat(picture[..., None], channels, axis=2)
        if picture.ndim == 3 and picture.shape[2] == channels:
            return picture
    raise DataError(
        f"{name} is {described(picture)}; give a path, a PIL image or an array "
        f"uint8 (height, width, {channels})"
    )


def described(value: Any) -> str:
    """Say what kind of thing something is, for messages."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return f"a {type(value).__name__}"
