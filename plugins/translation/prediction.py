"""Translated images as predictions. Imports numpy and Pillow only: a deployed model needs no PyTorch."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visiongraft.errors import ArtifactError


@dataclass(frozen=True, eq=False)
class Translated:
    """What a model made of one image.

    The image is not a dataclass field, so that a prediction stays small as JSON; ``files`` encodes
    it.

    Attributes:
        height: Image height in pixels.
        width: Image width in pixels.
        image: uint8 (height, width, 3), RGB.
    """

    height: int
    width: int
    pixels: InitVar[NDArray[np.uint8]]

    def __post_init__(self, pixels: NDArray[np.uint8]) -> None:
        object.__setattr__(self, "_image", pixels)

    @property
    def image(self) -> NDArray[np.uint8]:
        """The image."""
        image: NDArray[np.uint8] = self.__dict__["_image"]
        return image

    def files(self) -> dict[str, bytes]:
        """Encode the image as a PNG file; the key is a suffix of its name."""
        written = io.BytesIO()
        Image.fromarray(self.image).save(written, "PNG")
        return {"png": written.getvalue()}


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
        >>> predictions({"image": np.ones((1, 3, 2, 4), np.float32)}, {})
        [Translated(height=2, width=4)]
    """
    values = arrays["image"]
    if values.ndim != 4 or values.shape[1] != 3:
        raise ArtifactError(
            f"the model returns images of shape {values.shape}, not (N, 3, H, W); its file or folder is "
            "damaged"
        )
    rounded = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    height, width = values.shape[2:]
    return [Translated(height, width, np.ascontiguousarray(image)) for image in rounded]
