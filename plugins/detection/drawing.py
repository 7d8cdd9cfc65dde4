"""Draw boxes with class names and scores on their image, readable also with a hundred of them."""

from __future__ import annotations

import colorsys
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence

from PIL import Image, ImageDraw, ImageFont

from visiongraft.plugins.detection.prediction import LEAST_SCORE, Detected, DetectedObject

SMALLEST_SIDE = 160  # smaller images are enlarged so that names can be read
PADDING = 2
NAMED = 30  # boxes from which on colors alone tell the classes, with a legend
THIN = 10  # boxes from which on lines are thinner

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Rectangle = tuple[float, float, float, float]


def draw_boxes(image: Image.Image, prediction: Detected, least: float = LEAST_SCORE) -> Image.Image:
    """Draw detections on an image.

    A name is written where it covers no other name, and left out if there is no such place. Above 30 boxes
    there are no names, but a legend below the image.

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
    brush, side = ImageDraw.Draw(canvas), min(canvas.size)
    drawn = [each for each in prediction.objects if each.score >= least]
    line = max(1, side // 400) if len(drawn) > THIN else max(2, side // 200)
    for each in reversed(drawn):  # the most confident ends up on top
        x1, y1, x2, y2 = _scaled(each.box, factor)
        box = (x1, y1, max(x2, x1), max(y2, y1))
        brush.rectangle(box, outline=class_color(each.label), width=line)
    font = ImageFont.load_default(max(10, min(side // (30 if len(drawn) > THIN else 20), 40)))
    if len(drawn) > NAMED:
        return _with_legend(canvas, drawn, font)
    taken: list[Rectangle] = []
    for each in drawn:
        _name(brush, each, _scaled(each.box, factor), font, canvas.size, taken)
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


def _scaled(box: Rectangle, factor: int) -> Rectangle:
    x1, y1, x2, y2 = box
    return x1 * factor, y1 * factor, x2 * factor, y2 * factor


def _name(
    brush: ImageDraw.ImageDraw,
    found: DetectedObject,
    box: Rectangle,
    font: Font,
    limits: tuple[int, int],
    taken: list[Rectangle],
) -> None:
    """Write class and score beside a box, unless every place there covers another name."""
    text = f"{' '.join(found.label.split())} {found.score:.2f}"
    left, top, right, bottom = brush.textbbox((0, 0), text, font=font)
    width, height = right - left + 2 * PADDING, bottom - top + 2 * PADDING
    for x, y in _places(box, width, height, limits):
        place = (x, y, x + width, y + height)
        if not any(_overlap(place, other) for other in taken):
            taken.append(place)
            brush.rectangle(place, fill=class_color(found.label))
            brush.text((x + PADDING - left, y + PADDING - top), text, fill="black", font=font)
            return


def _places(
    box: Rectangle, width: float, height: float, limits: tuple[int, int]
) -> Iterator[tuple[float, float]]:
    """Yield corners for a name of this size within the image: above a box, inside of it, and below."""
    x1, y1, x2, y2 = box
    x = max(0.0, min(x1, limits[0] - width))
    right = max(0.0, min(x2 - width, limits[0] - width))
    lowest = max(0.0, limits[1] - height)
    if y1 >= height:
        yield x, y1 - height
    yield x, max(0.0, min(y1, lowest))
    if y1 >= height:
        yield right, y1 - height
    yield right, max(0.0, min(y1, lowest))
    yield x, max(0.0, min(y2, lowest))


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _with_legend(image: Image.Image, drawn: Sequence[DetectedObject], font: Font) -> Image.Image:
    """Add the classes below an image, the most frequent first, each with its color and number."""
    counts = Counter(each.label for each in drawn)
    entries = [f"{' '.join(name.split())} {count}" for name, count in counts.most_common()]
    brush = ImageDraw.Draw(image)
    height = int(brush.textbbox((0, 0), "Ag", font=font)[3]) + 2 * PADDING
    column = max(brush.textlength(entry, font=font) for entry in entries) + 2 * height
    columns = max(1, int(image.width // column))
    rows = -(-len(entries) // columns)
    canvas = Image.new("RGB", (image.width, image.height + rows * height + 2 * PADDING), "black")
    canvas.paste(image, (0, 0))
    brush = ImageDraw.Draw(canvas)
    for slot, (name, entry) in enumerate(zip(dict(counts.most_common()), entries, strict=True)):
        x = PADDING + slot % columns * column
        y = image.height + PADDING + slot // columns * height
        swatch = (x, y + PADDING, x + height - 2 * PADDING, y + height - PADDING)
        brush.rectangle(swatch, fill=class_color(name))
        brush.text((x + height, y + height / 2), entry, fill="white", font=font, anchor="lm")
    return canvas
