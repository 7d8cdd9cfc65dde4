"""Boxes with names and scores, drawn on their image."""

from __future__ import annotations

import colorsys
import zlib

from PIL import Image, ImageDraw, ImageFont

from visiongraft.plugins.detection.prediction import Detected

SHOWN = 0.3  # least score to be drawn; a detector lists many boxes that it hardly believes in
SMALLEST_SIDE = 160  # below that, pixels are repeated so that names can be read
PADDING = 2


def draw_boxes(image: Image.Image, prediction: Detected, least: float = SHOWN) -> Image.Image:
    """Draw what was found.

    Args:
        image: Any mode and size; small ones are enlarged by a whole factor.
        prediction: What was found on it.
        least: Least score of a box to be drawn.

    Returns:
        A new RGB image; each label has a color of its own.
    """
    factor = -(-SMALLEST_SIDE // max(image.size))
    size = (image.width * factor, image.height * factor)
    canvas = image.convert("RGB").resize(size, Image.Resampling.NEAREST)
    brush = ImageDraw.Draw(canvas)
    side = min(canvas.size)
    line = max(2, side // 200)
    font = ImageFont.load_default(max(10, min(side // 20, 40)))
    for found in reversed(prediction.objects):  # the surest ends on top
        if found.score < least:
            continue
        x1, y1, x2, y2 = (value * factor for value in found.box)
        color = label_color(found.label)
        brush.rectangle((x1, y1, max(x2, x1), max(y2, y1)), outline=color, width=line)
        text = f"{' '.join(found.label.split())} {found.score:.2f}"
        _tag(brush, (x1, y1), text, font, color, canvas.size)
    return canvas


def label_color(name: str) -> tuple[int, int, int]:
    """Give a label its color, always the same and bright enough for black text.

    Examples:
        >>> label_color("cat") == label_color("cat") != label_color("dog")
        True
    """
    hue = (zlib.crc32(name.encode()) % 360) / 360
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.65, 1.0)
    return int(red * 255), int(green * 255), int(blue * 255)


def _tag(
    brush: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    color: tuple[int, int, int],
    limits: tuple[int, int],
) -> None:
    """Write above a box, or within it at the image's edge."""
    left, top, right, bottom = brush.textbbox((0, 0), text, font=font)
    width, height = right - left + 2 * PADDING, bottom - top + 2 * PADDING
    x = max(0.0, min(corner[0], limits[0] - width))
    y = corner[1] - height if corner[1] >= height else corner[1]
    brush.rectangle((x, y, x + width, y + height), fill=color)
    brush.text((x + PADDING - left, y + PADDING - top), text, fill="black", font=font)
