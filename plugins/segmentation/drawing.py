"""Draw a mask as an overlay on its image, with a legend."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from visiongraft.plugins.segmentation.prediction import Segmented, class_colors

OPACITY = 0.5
BACKGROUND = "background"
MIN_SIDE = 240  # smaller images are enlarged, so that the legend fits
MARGIN = 4


def draw_overlay(image: Image.Image, prediction: Segmented) -> Image.Image:
    """Color each pixel by its class, and add a legend below.

    Pixels of a class called background are not colored.

    Args:
        image: Any mode; small images are enlarged by an integer factor.
        prediction: Its prediction.

    Returns:
        A new RGB image with the legend below the overlay. The legend lists the classes that are
        painted, sorted by number of pixels.
    """
    colors = class_colors(len(prediction.class_names))
    pixels = np.asarray(image.convert("RGB")).astype(np.float32)
    if prediction.mask.ndim == 2:
        names = prediction.class_names
        opacity = np.array([0 if _unpainted(prediction, n) else OPACITY for n in names], np.float32)
        blended = pixels + opacity[prediction.mask][..., None] * (colors[prediction.mask] - pixels)
    else:
        blended = pixels
        for layer, color in zip(prediction.mask, colors, strict=True):
            blended = np.where(
                layer[..., None] == 1, OPACITY * color + (1 - OPACITY) * blended, blended
            )
    overlay = Image.fromarray(blended.round().astype(np.uint8))
    factor = -(-MIN_SIDE // max(overlay.size))
    size = (overlay.width * factor, overlay.height * factor)
    return _with_legend(overlay.resize(size, Image.Resampling.NEAREST), prediction, colors)


def _unpainted(prediction: Segmented, name: str) -> bool:
    """Check whether the pixels of a class keep their colors."""
    return prediction.mask.ndim == 2 and " ".join(name.lower().split()) == BACKGROUND


def _with_legend(
    image: Image.Image,
    prediction: Segmented,
    colors: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> Image.Image:
    fractions = list(prediction.fractions.items())
    present = sorted(
        (
            i
            for i, (name, share) in enumerate(fractions)
            if share and not _unpainted(prediction, name)
        ),
        key=lambda i: -fractions[i][1],
    )
    width = max(image.width, MIN_SIDE)
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
    for slot, (i, entry) in enumerate(zip(present, entries, strict=True)):
        x = MARGIN + int(slot % columns * column)
        y = image.height + MARGIN + slot // columns * line
        color = tuple(int(value) for value in colors[i])
        brush.rectangle((x, y + size // 4, x + size, y + size // 4 + size), fill=color)
        brush.text((x + size + MARGIN, y + line // 2), entry, fill="white", font=font, anchor="lm")
    return canvas
