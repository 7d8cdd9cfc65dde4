"""Decode single images with numpy and Pillow only, so that a deployed model needs no torch.

How unusual images are handled:

- EXIF rotation is applied; damaged EXIF data is ignored. Color profiles are not applied.
- Palettes are converted to colors. Transparent images are composited over white, unless 4
  channels are requested.
- 16-bit values are scaled to 8 bits rather than clipped: the high byte is kept. 32-bit integers
  are read as 16-bit values, and floats as 0..1 or otherwise as 0..255; other ranges are refused.
- CMYK is converted to RGB, including the inverted CMYK that Adobe writes. LAB is refused.
- The first frame of an animation and the first page of a multi-page file are used.
- A truncated or corrupt image, one of an unknown type, or one with more than ``MAX_PIXELS`` pixels
  is refused with one line that names it. The type is detected from the content, not the suffix.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from visiongraft.errors import (
    LONGEST_NAME,
    DataError,
    escape_unprintable,
    one_line,
    shorten,
)

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff"}
    | {".webp"}
)
# Pillow supports more, but some of those run external programs (EPS) or are hardly tested.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Just below Pillow's own limit; three channels take 0.5 GB.
MAX_PIXELS = 178_000_000
# What a file may decompress to if that is more than fifty times its size in pixels: an image of
# 32 megapixels, or a mask of 128. Photos are far larger files.
MAX_INFLATED_BYTES = 128_000_000
MIN_BYTES_PER_PIXEL = 0.02
LARGE_PIXELS = 16_000_000
STRIP_PIXELS = 4_000_000  # converted at a time, which bounds the memory for intermediate images
MAX_FILE_BYTES = 2**31
SMALL_FILE_BYTES = 2**24  # of class names, settings, or the annotations of one image

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_ORIENTATION = 0x0112
_MARKS = (  # that of UTF-32 first: it begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_IMPOSSIBLE_NAME = re.compile(rf"[^/\\]{{{LONGEST_NAME + 1},}}")
# Unlike ``str.splitlines``, which also splits at control characters within a name.
_LINE_ENDS = re.compile(r"\r\n|\r|\n")


def decode_file(path: Path, channels: int = 3) -> NDArray[np.uint8]:
    """Decode an image file.

    Args:
        path: Path of the file.
        channels: 1 for grayscale, 3 for RGB, 4 for RGBA.

    Returns:
        uint8 (H, W, channels).

    Raises:
        DataError: The file cannot be read or decoded; the message names the file and the cause.
    """
    return decode_bytes(read_file(path), printable(path), channels)


def decode_bytes(
    content: bytes, name: str, channels: int = 3, lock: AbstractContextManager[Any] | None = None
) -> NDArray[np.uint8]:
    """Decode an image from memory.

    Args:
        content: The bytes of an image file.
        name: Name of the image in messages.
        channels: 1 for grayscale, 3 for RGB, 4 for RGBA.
        lock: Acquired while an image of more than 16 megapixels is decoded, so that the memory
            does not grow with the number of threads.

    Returns:
        uint8 (H, W, channels).

    Raises:
        DataError: The image cannot be decoded.
    """
    with open_image(content, name) as image:
        large = image.width * image.height > LARGE_PIXELS
        with lock if lock is not None and large else nullcontext():
            return to_array(image, channels)


@contextmanager
def open_image(content: bytes, name: str) -> Iterator[Image.Image]:
    """Open an image as a context manager, and turn every error inside it into a one-line error.

    Args:
        content: The bytes of an image file.
        name: Name of the image in messages.

    Yields:
        The image, not decoded yet.

    Raises:
        DataError: The content is not an image, is too large, or cannot be decoded.
    """
    if not content:
        raise DataError(f"{name}: the file is empty (0 bytes)")
    _silence_pillow()
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            _refuse_bomb(image, len(content))
            yield image
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: is over {MAX_PIXELS:,} pixels; scale it down") from error
    except UnidentifiedImageError as error:
        raise DataError(
            f"{name}: is damaged or not an image of a known type ({', '.join(FORMATS)})"
        ) from error
    except Exception as error:  # decoders may raise any error on corrupt content
        raise DataError(f"{name}: cannot be decoded: {one_line(error)}") from error


def has_16_bits(content: bytes) -> bool:
    """Check whether an image file holds 16 or more bits per value, from its header.

    Args:
        content: The bytes of an image file.
    """
    try:
        with open_image(content, "") as image:
            return image.mode[0] in "IF" or ";16" in str(getattr(image, "tile", ""))
    except DataError:
        return False


def to_array(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    """Convert a Pillow image to an array; the image itself is not modified.

    Args:
        image: Image of any mode.
        channels: 1, 3 or 4.

    Returns:
        uint8 (H, W, channels), writable.

    Raises:
        DataError: There is no such conversion. If the image is decoded only now and is corrupt,
            Pillow may raise an error of any other type.
    """
    if channels not in _MODES:
        raise DataError(f"images are decoded to 1, 3 or 4 channels, not {channels}")
    if image.mode == "LAB":
        raise DataError("LAB colors are not supported; convert it to RGB")
    image = upright(image)
    if image.mode[0] in "IF":
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    array = np.empty((image.height, image.width, channels), np.uint8)
    rows = max(STRIP_PIXELS // image.width, 1)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        strip = image.crop((0, top, image.width, bottom)) if rows < image.height else image
        array[top:bottom] = _as_channels(strip, channels)
    return array


def _as_channels(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    if channels != 4 and image.has_transparency_data:
        opaque = image.convert("RGBA")
        white = Image.new("RGBA", opaque.size, "white")
        image = Image.alpha_composite(white, opaque)
    mode = _MODES[channels]
    array = np.asarray(image if image.mode == mode else image.convert(mode))
    return array[:, :, None] if channels == 1 else array


def _refuse_bomb(image: Image.Image, size: int) -> None:
    """Refuse a small file that decompresses to very many pixels, before it is decoded."""
    pixels = image.width * image.height
    inflated = pixels * (1 if image.mode in ("1", "L", "P") else 4)  # as Pillow stores them
    if inflated > MAX_INFLATED_BYTES and size < MIN_BYTES_PER_PIXEL * pixels:
        raise DataError(
            f"is a file of {size:,} bytes that decompresses to {image.width} x {image.height} "
            "pixels; scale it down"
        )


def read_file(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """Read a regular file.

    Args:
        path: Path of the file.
        limit: Largest size in bytes.

    Returns:
        The content of the file.

    Raises:
        DataError: The file cannot be read, is larger, or is something else: reading from a named
            pipe or a device would wait or never end.
    """
    try:
        status = os.stat(path)
        regular = stat.S_ISREG(status.st_mode)
        if (regular and status.st_size <= limit) or stat.S_ISDIR(status.st_mode):
            return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        cause = getattr(error, "strerror", None) or error
        raise DataError(f"{printable(path)}: cannot be read: {cause}") from error
    cause = (
        f"it has {status.st_size:,} bytes, more than {limit:,}"
        if regular
        else "it is a named pipe, socket or device, not a file"
    )
    raise DataError(f"{printable(path)}: cannot be read: {cause}")


def read_text(path: Path, limit: int = MAX_FILE_BYTES) -> str:
    """Read a text file.

    Args:
        path: Path of the file: UTF-8 with or without a byte order mark, or UTF-16 or UTF-32 with
            one. No other encoding is guessed: the wrong one would change names silently.
        limit: Largest size in bytes.

    Returns:
        Its text, without the mark.

    Raises:
        DataError: The file cannot be read, is not text in one of these encodings, or contains a
            null byte.
    """
    content = read_file(path, limit)
    encoding = marked_encoding(content) or "utf-8"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise not_text(path, encoding, error) from error
    if "\0" in text:  # neither a name nor a number has one, but UTF-16 without a mark has many
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{printable(path)}, line {line}: contains a null byte; save it as UTF-8")
    return text


def not_text(path: Path, encoding: str, error: UnicodeDecodeError) -> DataError:
    """Return the error for a file that is not text in the encoding that it seems to have.

    Args:
        path: Path of the file.
        encoding: The codec that it was decoded with.
        error: Its error.
    """
    name = encoding.upper().removesuffix("-SIG")
    return DataError(f"{printable(path)} is not {name} text ({one_line(error)}); save it as UTF-8")


def marked_encoding(content: bytes) -> str | None:
    """Return the encoding that a byte order mark announces.

    Args:
        content: The beginning of a file.

    Returns:
        A codec that removes the mark, or ``None`` if there is no mark.
    """
    return next((name for mark, name in _MARKS if content.startswith(mark)), None)


def read_lines(path: Path, limit: int = MAX_FILE_BYTES) -> list[str]:
    """Read the lines of a text file, stripped and without empty ones; see ``read_text``."""
    lines = _LINE_ENDS.split(read_text(path, limit))
    return [line.strip() for line in lines if line.strip()]


def printable(path: Path | str) -> str:
    r"""Format a path so that it fits on one line and is valid UTF-8.

    Args:
        path: Any path.

    Returns:
        The path, with unprintable characters escaped. Names that are longer than those of any file
        are shortened in their middle.

    Examples:
        >>> printable("a/b.jpg"), printable("a\nb.jpg"), len(printable("a/" + 5000 * "b"))
        ('a/b.jpg', 'a\\nb.jpg', 302)
    """
    return escape_unprintable(_IMPOSSIBLE_NAME.sub(lambda name: shorten(name[0]), str(path)))


def _silence_pillow() -> None:
    """Ignore Pillow's warnings: they do not name the file, and serious ones become errors here.

    ``warnings.catch_warnings`` is not an option: it is not thread-safe, and each use makes Python
    repeat other modules' warnings that it has already shown.
    """
    rule = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
    if not warnings.filters or warnings.filters[0] != rule:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def upright(image: Image.Image) -> Image.Image:
    """Decode an image, and rotate it according to its EXIF orientation, if that can be read.

    Args:
        image: An open image.

    Returns:
        The image itself, or a rotated copy. If its pixels are damaged, Pillow may raise an error of any
        type.
    """
    image.load()  # not below: Pillow reports damage once, and then returns black
    with suppress(Exception):  # damaged EXIF data may raise any error, while the pixels are fine
        if image.getexif().get(_ORIENTATION, 1) in range(2, 9):
            return ImageOps.exif_transpose(image)
    return image


def _to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale gray values of 16-bit, 32-bit and float images to 0..255."""
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    if values.dtype.kind == "f" and 0 <= low <= high <= 255:
        return (values * (255 if high <= 1 else 1) + 0.5).astype(np.uint8)
    if values.dtype.kind in "iu" and 0 <= low <= high <= 65535:
        # As Pillow does with 16-bit color, so that gray and color agree.
        return (values >> 8).astype(np.uint8)
    raise DataError(f"gray values from {low} to {high} have no defined brightness")
