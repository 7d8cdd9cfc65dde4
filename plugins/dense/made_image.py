"""Images as predictions. Imports numpy and Pillow only: a deployed model needs no PyTorch."""

from __future__ import annotations

import io
from dataclasses import InitVar, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visiongraft.errors import ArtifactError
from visiongraft.html import html_figure
from visiongraft.pages.parts import data_uri

SIDE = 320  # of the image in a notebook, in pixels


@dataclass(frozen=True, eq=False)
class MadeImage:
    """An image that a model made.

    The image is not a dataclass field, so that a prediction stays small as JSON; ``files`` encodes
    it.

    Attributes:
        height: Image height in pixels.
        width: Image width in pixels.
        image: uint8 (height, width, C).
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
        gray = self.image.shape[2] == 1
        Image.fromarray(self.image[:, :, 0] if gray else self.image).save(written, "PNG")
        return {"png": written.getvalue()}

    def _repr_html_(self) -> str:
        return html_figure(data_uri(self.image, SIDE), f"{self.width} x {self.height} pixels")


def as_images(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert a batch of values to images.

    Args:
        values: float (N, C, H, W) in 0..1; C is 1 or 3.

    Returns:
        uint8 (N, H, W, C).

    Raises:
        ArtifactError: The array has another shape.
    """
    if values.ndim != 4 or values.shape[1] not in (1, 3):
        raise ArtifactError(
            f"the model returns images of shape {values.shape}, not (N, 1 or 3, H, W); its file or folder "
            "is damaged"
        )
    rounded = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(rounded.transpose(0, 2, 3, 1))
