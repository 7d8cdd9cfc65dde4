"""Draw boxes with class names and scores on their image."""

from __future__ import annotations

import colorsys
import zlib

from PIL import Image, ImageDraw, ImageFont

from visiongraft.plugins.detection.prediction import Detected

LEAST_SCORE = 0.3  # of a box to be drawn; a detector returns many boxes of low confidence
SMALLEST_SIDE = 160  # smaller images are enlarged so that names can be read
PADDING = 2


def draw_boxes(image: Image.Image, prediction: Detected, least: float = LEAST_SCORE) -> Image.Image:
    """Draw detections on an image.

    Args:
        image: Any mode and size; small ones are enlarged by an integer factor.
        prediction: The objects found in it.
        least: Least score of a box to be drawn.

    Returns:
        A new RGB image; each class has a color of its own.
    """
    factor = -(-SMALLEST_SIDE // max(image.size))
    size = (image.width * factor, image.height * factor)
    canvas = image.convert("RGB").resize(size, Image.Resampling.NEAREST)
    brush = ImageDraw.Draw(canvas)
    side = min(canvas.size)
    line = max(2, side // 200)
    font = ImageFont.load_default(max(10, min(side // 20, 40)))
    for each in reversed(prediction.objects):  # the most confident ends up on top
        if each.score < least:
            continue
        x1, y1, x2, y2 = (value * factor for value in each.box)
        color = class_color(each.label)
        brush.rectangle((x1, y1, max(x2, x1), max(y2, y1)), outline=color, width=line)
        text = f"{' '.join(each.label.split())} {each.score:.2f}"
        _tag(brush, (x1, y1), text, font, color, canvas.size)
    return canvas


def class_color(name: str) -> tuple[int, int, int]:
    """Return the color of a class, always the same and bright enough for black text.

    Examples:
        >>> class_color("cat") == class_color("cat") != class_color("dog")
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
    """Write text above a box, or inside of it at the edge of the image."""
    left, top, right, bottom = brush.textbbox((0, 0), text, font=font)
    width, height = right - left + 2 * PADDING, bottom - top + 2 * PADDING
    x = max(0.0, min(corner[0], limits[0] - width))
    y = corner[1] - height if corner[1] >= height else corner[1]
    brush.rectangle((x, y, x + width, y + height), fill=color)
    brush.text((x + PADDING - left, y + PADDING - top), text, fill="black", font=font)
