"""How image processors of transformers prepare images, as a ``PreprocessConfig``."""

from __future__ import annotations

from typing import Any

from visiongraft.errors import BackboneError
from visiongraft.preprocess import PreprocessConfig

DEFAULT = PreprocessConfig((224, 224))  # of networks with random weights
BICUBIC = 3  # Pillow's number of the filter
WARPED_FROM = (
    384  # side from which processors with ``crop_pct`` stretch images instead of cropping them
)


def read_preprocess(source: str) -> PreprocessConfig:
    """Read the image processor of a repository or a folder.

    Args:
        source: As for ``AutoImageProcessor.from_pretrained``, which may raise anything.

    Raises:
        BackboneError: It prepares images in a way that has no equivalent.
    """
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(source)  # type: ignore[no-untyped-call]
    return preprocess_of(processor, source)


def preprocess_of(processor: Any, source: str) -> PreprocessConfig:
    """Translate the settings of an image processor.

    Args:
        processor: An image processor of transformers.
        source: Where it comes from, for the message.

    Raises:
        BackboneError: It prepares images in a way that has no equivalent.
    """
    if not processor.do_rescale or abs(processor.rescale_factor * 255 - 1) > 1e-6:
        raise BackboneError(
            f"{source}: its image processor does not scale values to 0..1; prepare images yourself, and pass the "
            "network as backbone"
        )
    size, resize, fraction = _geometry(processor)
    normalizes = processor.do_normalize
    return PreprocessConfig(
        size=size,
        mean=tuple(processor.image_mean) if normalizes else (0.0, 0.0, 0.0),
        std=tuple(processor.image_std) if normalizes else (1.0, 1.0, 1.0),
        interpolation="bicubic" if int(processor.resample) == BICUBIC else "bilinear",
        resize=resize,
        crop_fraction=fraction,
    )


def _geometry(processor: Any) -> tuple[tuple[int, int], str, float]:
    """Return size, kind of resizing and fraction of the crop."""
    short, crop_pct = processor.size.get("shortest_edge"), getattr(processor, "crop_pct", None)
    if crop_pct is not None and short:
        if short < WARPED_FROM:
            return (short, short), "crop", crop_pct
        return (short, short), "stretch", 1.0
    if getattr(processor, "do_center_crop", False):
        crop = processor.crop_size["height"], processor.crop_size["width"]
        resized = short or min(processor.size["height"], processor.size["width"])
        return crop, "crop", min(min(crop) / resized, 1.0)
    if short:
        return (short, short), "crop", 1.0
    return (processor.size["height"], processor.size["width"]), "stretch", 1.0
