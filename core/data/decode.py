"""Decoding of single images: numpy and Pillow only, so that a deployed model needs no torch.

What happens to unusual images:

- EXIF rotation is applied; damaged EXIF data are ignored. Color profiles are not applied.
- Palettes are looked up. Transparency is laid over white, as on a page, unless 4 channels are
  asked for.
- 16-bit values are scaled to 8 bits, not clipped: the high byte counts. 32-bit integers are read
  as 16-bit values, floats as 0..1 or else as 0..255; outside of that they are refused.
- CMYK is converted to RGB, also as Adobe stores it, inverted. LAB is refused.
- Of an animation, or of a file with several pages, the first image counts.
- An image that is truncated, corrupt, of an unknown type, or over ``MAX_PIXELS`` is refused in one
  line that names it. The content says what type a file has, not its suffix.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from visiongraft.errors import DataError, one_line

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff"}
    | {".webp"}
)
# Pillow knows more, but some of those start other programs (EPS) or are hardly tested.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Just below where Pillow refuses by itself; three channels take 0.5 GB.
MAX_PIXELS = 178_000_000

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_ORIENTATION = 0x0112


def decode_file(path: Path, channels: int = 3) -> NDArray[np.uint8]:
    """Decode an image file.

    Args:
        path: The file.
        channels: 1 for gray, 3 for RGB, 4 for RGB and opacity.

    Returns:
        uint8 (H, W, channels).

    Raises:
        DataError: The file cannot be read or decoded; the message names it and the cause.
    """
    return decode_bytes(read_file(path), printable(path), channels)


def decode_bytes(content: bytes, name: str, channels: int = 3) -> NDArray[np.uint8]:
    """Decode an image from memory.

    Args:
        content: What an image file holds.
        name: What to call it in messages.
        channels: 1 for gray, 3 for RGB, 4 for RGB and opacity.

    Returns:
        uint8 (H, W, channels).

    Raises:
        DataError: It cannot be decoded.
    """
    with open_image(content, name) as image:
        return to_array(image, channels)


@contextmanager
def open_image(content: bytes, name: str) -> Iterator[Image.Image]:
    """Open an image, and report whatever goes wrong while it is open in one line.

    Args:
        content: What an image file holds.
        name: What to call it in messages.

    Yields:
        The image, not decoded yet.

    Raises:
        DataError: It is no image, is too large, or cannot be decoded.
    """
    if not content:
        raise DataError(f"{name}: the file is empty (0 bytes)")
    _silence_pillow()
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: is over {MAX_PIXELS:,} pixels; scale it down") from error
    except UnidentifiedImageError as error:
        raise DataError(
            f"{name}: is damaged or no image of a known type ({', '.join(FORMATS)})"
        ) from error
    except Exception as error:  # decoders raise anything on corrupt content
        cause = one_line(error)
        raise DataError(f"{name}: cannot be decoded: {cause}") from error


def to_array(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    """Convert a Pillow image, which stays as it is.

    Args:
        image: Of any mode.
        channels: 1, 3 or 4.

    Returns:
        uint8 (H, W, channels), writable.

    Raises:
        DataError: There is no such conversion. Pillow raises errors of any type if the image is
            only decoded now, and cannot be.
    """
    if channels not in _MODES:
        raise DataError(f"images are decoded to 1, 3 or 4 channels, not {channels}")
    if image.mode == "LAB":
        raise DataError("LAB colors are not supported; convert it to RGB")
    image.load()
    image = _upright(image)
    if image.mode[0] in "IF":
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    if channels != 4 and image.has_transparency_data:
        opaque = image.convert("RGBA")
        white = Image.new("RGBA", opaque.size, "white")
        image = Image.alpha_composite(white, opaque)
    mode = _MODES[channels]
    array = np.array(image if image.mode == mode else image.convert(mode))
    return array[:, :, None] if channels == 1 else array


def read_file(path: Path) -> bytes:
    """Read a file.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        cause = getattr(error, "strerror", None) or error
        raise DataError(f"{printable(path)}: cannot be read: {cause}") from error


def printable(path: Path | str) -> str:
    r"""Write a path so that it stays on one line and in valid UTF-8, whatever a disk holds.

    Args:
        path: Any path.

    Returns:
        The same in nearly all cases; else with escapes.

    Examples:
        >>> printable("a/b.jpg"), printable("a\nb.jpg")
        ('a/b.jpg', 'a\\nb.jpg')
    """
    text = str(path)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _silence_pillow() -> None:
    """Keep Pillow's warnings away; they name no file, and what matters becomes an error here.

    ``warnings.catch_warnings`` is no way: it is unsafe in threads, and each use makes Python show
    the warnings of others again that it had shown already.
    """
    rule = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
    if not warnings.filters or warnings.filters[0] != rule:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF data say, as far as they can be read."""
    try:
        if image.getexif().get(_ORIENTATION, 1) in range(2, 9):
            return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data raise anything, and the pixels are fine
        return image
    return image


def _to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale gray values of 16-bit, 32-bit and float images to 0..255."""
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    if values.dtype.kind == "f" and 0 <= low <= high <= 255:
        return (values * (255 if high <= 1 else 1) + 0.5).astype(np.uint8)
    if values.dtype.kind in "iu" and 0 <= low <= high <= 65535:
        # What Pillow does with 16-bit colors, so that gray and color agree.
        return (values >> 8).astype(np.uint8)
    raise DataError(f"gray values from {low} to {high} have no defined brightness")
