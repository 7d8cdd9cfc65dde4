"""Generated images as predictions. Imports numpy and Pillow only: a deployed model needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from visiongraft.plugins.dense.made_image import MadeImage, as_images


@dataclass(frozen=True, eq=False)
class Generated(MadeImage):
    """What a generator made of one latent.

    Attributes:
        height: Image height in pixels.
        width: Image width in pixels.
        brightness: Mean of its values, in 0..1.
        image: uint8 (height, width, C).
    """

    brightness: float


def predictions(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> list[Generated]:
    """Convert a batch of decoded outputs to predictions.

    Args:
        arrays: ``images``, float (N, C, H, W) in 0..1.
        metadata: Not used.

    Returns:
        One prediction per latent.

    Raises:
        ArtifactError: The arrays are no images.

    Examples:
        >>> import numpy as np
        >>> predictions({"images": np.ones((1, 3, 2, 4), np.float32)}, {})
        [Generated(height=2, width=4, brightness=1.0)]
    """
    images = as_images(arrays["images"])
    height, width = images.shape[1:3]
    return [
        Generated(height, width, image, float(own.mean()))
        for own, image in zip(arrays["images"], images, strict=True)
    ]
