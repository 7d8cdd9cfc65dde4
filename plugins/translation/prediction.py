"""Translated images as predictions. Imports numpy and Pillow only: a deployed model needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from visiongraft.plugins.dense.made_image import MadeImage, as_images


@dataclass(frozen=True, eq=False)
class Translated(MadeImage):
    """What a model made of one image.

    Attributes:
        height: Image height in pixels.
        width: Image width in pixels.
        image: uint8 (height, width, 3), RGB.
    """


def predictions(
    arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]
) -> list[Translated]:
    """Convert a batch of decoded outputs to predictions.

    Args:
        arrays: ``image``, float (N, 3, H, W) in 0..1.
        metadata: Not used.

    Returns:
        One prediction per image.

    Raises:
        ArtifactError: The arrays are no images.

    Examples:
        >>> import numpy as np
        >>> predictions({"image": np.ones((1, 3, 2, 4), np.float32)}, {})
        [Translated(height=2, width=4)]
    """
    images = as_images(arrays["image"])
    height, width = images.shape[1:3]
    return [Translated(height, width, image) for image in images]
