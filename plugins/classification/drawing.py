"""Draw a prediction as a caption under its image."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from visiongraft.plugins.classification.prediction import Classified, MultiClassified

MIN_SIDE = 160  # smaller images are enlarged, so that the text fits
MARGIN = 4


def draw_caption(image: Image.Image, prediction: Classified | MultiClassified) -> Image.Image:
    """Draw class names and probabilities under an image.

    Args:
        image: Any mode and size; small images are enlarged by an integer factor.
        prediction: Its prediction.

    Returns:
        A new RGB image with the caption below the image.
    """
    image = _enlarged(image.convert("RGB"))
    width = max(image.width, MIN_SIDE)
    size = max(12, min(width // 16, 48))
    font = ImageFont.load_default(size)
    line = " ".join(caption(prediction).split())  # class names may contain line breaks
    text = _fitted(line, font, width - 2 * MARGIN)
    height = size + size // 2 + 2 * MARGIN
    canvas = Image.new("RGB", (width, image.height + height), "black")
    canvas.paste(image, ((width - image.width) // 2, 0))
    middle = image.height + height // 2
    ImageDraw.Draw(canvas).text((MARGIN, middle), text, fill="white", font=font, anchor="lm")
    return canvas


def caption(prediction: Classified | MultiClassified) -> str:
    """Format a prediction as text.

    Args:
        prediction: The prediction.

    Returns:
        Class names with their probabilities.

    Examples:
        >>> caption(MultiClassified(("cat", "dog"), {"dog": 0.5, "cat": 0.934}))
        'cat 0.93, dog 0.50'
    """
    if isinstance(prediction, Classified):
        return f"{prediction.label} {prediction.score:.2f}"
    named = [f"{name} {prediction.probabilities[name]:.2f}" for name in prediction.labels]
    return ", ".join(named) or "no label"


def _enlarged(image: Image.Image) -> Image.Image:
    factor = -(-MIN_SIDE // max(image.size))
    size = (image.width * factor, image.height * factor)
    return image.resize(size, Image.Resampling.NEAREST)


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Shorten a text in the middle until it fits; its end holds the probability."""
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        head, tail = (kept + 1) // 2, kept // 2
        short = f"{text[:head]}...{text[-tail:]}"
        if font.getlength(short) <= width:
            return short
    return text[:1]
