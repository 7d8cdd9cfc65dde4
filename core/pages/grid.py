"""Several images with captions as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from visiongraft.errors import escape_unprintable

SIDE = 160  # least side of an image, in pixels
LINE = 18  # height of a caption
COLUMNS = 4


def image_grid(
    found: Sequence[tuple[NDArray[np.uint8], str]], columns: int = COLUMNS
) -> PillowImage.Image:
    """Put images with captions into rows; small ones are enlarged.

    Args:
        found: Images uint8 (H, W, 3) with their captions, which are cut if they are too long.
        columns: The most images in a row.

    Examples:
        >>> image_grid([(np.zeros((80, 80, 3), np.uint8), "black")] * 3, columns=2).size
        (320, 356)
    """
    images = [PillowImage.fromarray(pixels) for pixels, _ in found]
    factor = -(-SIDE // max(max(image.size) for image in images))
    width, height = (factor * max(i.size[axis] for i in images) for axis in (0, 1))
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    canvas = PillowImage.new("RGB", (columns * width, rows * (height + LINE)), "white")
    brush, font = ImageDraw.Draw(canvas), ImageFont.load_default(LINE - 6)
    for slot, (image, (_, caption)) in enumerate(zip(images, found, strict=True)):
        x, y = slot % columns * width, slot // columns * (height + LINE)
        size = (image.width * factor, image.height * factor)
        canvas.paste(image.resize(size, PillowImage.Resampling.NEAREST), (x, y))
        text = escape_unprintable(caption)
        while text and brush.textlength(text, font=font) > width - 4:
            text = text[:-1]
        brush.text((x + 2, y + height + LINE / 2), text, fill="black", font=font, anchor="lm")
    return canvas
