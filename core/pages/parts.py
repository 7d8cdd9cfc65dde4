"""What pages consist of: values only, which the template escapes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

Cell = str | int | float | None


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes:
        text: Its text.
        strong: Whether it stands out, as a verdict does.
    """

    kind: ClassVar[str] = "text"

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Lines:
    """A list of lines."""

    kind: ClassVar[str] = "lines"

    lines: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Text to copy, such as a command."""

    kind: ClassVar[str] = "code"

    text: str


@dataclass(frozen=True)
class Table:
    """A table that readers sort by a click on a heading.

    Attributes:
        columns: Headings.
        rows: One cell per column; numbers are aligned, and ``None`` is an empty cell.
        caption: What it shows.
        folded: Whether it is shown on request only, as long ones are.
    """

    kind: ClassVar[str] = "table"

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Figure:
    """A figure of Bokeh.

    Attributes:
        model: What ``bokeh.plotting.figure`` returns, or a layout of these.
        caption: What it shows, also for those who cannot see it.
    """

    kind: ClassVar[str] = "figure"

    model: Any
    caption: str


@dataclass(frozen=True)
class GalleryImage:
    """An image of a gallery.

    Attributes:
        source: The image as the URI of its data, see ``data_uri``.
        caption: One line each.
        details: Small images below it, such as explanations; these have no details of their own.
    """

    source: str
    caption: Sequence[str] = ()
    details: Sequence[GalleryImage] = ()


@dataclass(frozen=True)
class Gallery:
    """Images in rows.

    Attributes:
        images: The images.
        wide: Whether they need more room, such as two images beside each other.
    """

    kind: ClassVar[str] = "gallery"

    images: Sequence[GalleryImage]
    wide: bool = False


Part = Text | Lines | Code | Table | Figure | Gallery


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading.

    Attributes:
        name: Its anchor: letters, digits and ``_``.
        title: Its heading.
        parts: Its contents, in order.
    """

    name: str
    title: str
    parts: Sequence[Part]


def data_uri(image: PillowImage.Image | NDArray[np.uint8], side: int = 224) -> str:
    """Encode an image, so that a page needs no other file.

    Args:
        image: The image; uint8 (H, W, C) as an array.
        side: Longest side in pixels; larger images are reduced.

    Returns:
        A ``data:`` URI of a JPEG image.

    Examples:
        >>> data_uri(np.zeros((4, 4, 3), np.uint8)).partition(",")[0]
        'data:image/jpeg;base64'
    """
    if not isinstance(image, PillowImage.Image):
        image = pillow_image(image)
    image = image.convert("RGB")
    image.thumbnail((side, side))
    content = io.BytesIO()
    image.save(content, "jpeg", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def pillow_image(pixels: NDArray[np.uint8]) -> PillowImage.Image:
    """Return an array (H, W, C) as an image: the first three channels, or the only one."""
    return PillowImage.fromarray(pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., 0])
