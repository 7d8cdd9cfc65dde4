"""A mask laid over its image, with a legend below."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from visiongraft.plugins.segmentation.prediction import Segmented, class_colors

OPACITY = 0.5
BACKGROUND = "background"
SMALLEST_SIDE = 240  # below that, pixels are repeated so that the legend has room
MARGIN = 4


def draw_overlay(image: Image.Image, prediction: Segmented) -> Image.Image:
    """Color each pixel by its class, and say below which color is which.

    A class called background stays as it is, so that what is looked for stands out.

    Args:
        image: Any mode; small ones are enlarged by a whole factor.
        prediction: What was predicted for it.

    Returns:
        A new RGB image: the colored image above, the legend of the classes that are there
        below, those with the most pixels first.
    """
    colors = class_colors(len(prediction.labels))
    pixels = np.asarray(image.convert("RGB")).astype(np.float32)
    if prediction.mask.ndim == 2:
        named = [" ".join(name.lower().split()) for name in prediction.labels]
        opacity = np.array([0 if name == BACKGROUND else OPACITY for name in named], np.float32)
        laid = pixels + opacity[prediction.mask][..., None] * (colors[prediction.mask] - pixels)
    else:
        laid = pixels
        for layer, color in zip(prediction.mask, colors, strict=True):
            laid = np.where(layer[..., None] == 1, OPACITY * color + (1 - OPACITY) * laid, laid)
    overlay = Image.fromarray(laid.round().astype(np.uint8))
    factor = -(-SMALLEST_SIDE // max(overlay.size))
    size = (overlay.width * factor, overlay.height * factor)
    return _with_legend(overlay.resize(size, Image.Resampling.NEAREST), prediction, colors)


def _with_legend(
    image: Image.Image,
    prediction: Segmented,
    colors: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> Image.Image:
    fractions = list(prediction.fractions.items())
    present = sorted((i for i, (_, s) in enumerate(fractions) if s), key=lambda i: -fractions[i][1])
    width = max(image.width, SMALLEST_SIDE)
    size = max(12, min(width // 30, 32))
    font = ImageFont.load_default(size)
    entries = [f"{' '.join(fractions[i][0].split())} {fractions[i][1]:.1%}" for i in present]
    column = max((font.getlength(entry) for entry in entries), default=0) + 2 * size
    columns = max(int((width - MARGIN) // column), 1)
    rows = -(-len(entries) // columns)
    line = size + size // 2
    canvas = Image.new("RGB", (width, image.height + rows * line + 2 * MARGIN), "black")
    canvas.paste(image, ((width - image.width) // 2, 0))
    brush = ImageDraw.Draw(canvas)
    for place, (i, entry) in enumerate(zip(present, entries, strict=True)):
        x = MARGIN + int(place % columns * column)
        y = image.height + MARGIN + place // columns * line
        color = tuple(int(value) for value in colors[i])
        brush.rectangle((x, y + size // 4, x + size, y + size // 4 + size), fill=color)
        brush.text((x + size + MARGIN, y + line // 2), entry, fill="white", font=font, anchor="lm")
    return canvas
