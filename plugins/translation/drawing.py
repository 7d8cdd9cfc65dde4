"""Show an image and what a model made of it."""

from __future__ import annotations

from PIL import Image

from visiongraft.plugins.translation.prediction import Translated


def draw_beside(image: Image.Image, prediction: Translated) -> Image.Image:
    """Put what was made of an image to its right.

    Args:
        image: The image, any mode.
        prediction: Its prediction, of the same size.

    Returns:
        A new RGB image, twice as wide.
    """
    canvas = Image.new("RGB", (2 * image.width, image.height))
    canvas.paste(image.convert("RGB"), (0, 0))
    canvas.paste(Image.fromarray(prediction.image), (image.width, 0))
    return canvas
