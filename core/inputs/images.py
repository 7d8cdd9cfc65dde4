"""Images, the input of most tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.decode import decode_bytes
from visiongraft.data.images import each_image, image_array
from visiongraft.data.listing import list_images
from visiongraft.data.pixels import unusual_values
from visiongraft.inputs.contract import Inputs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Images(Inputs):
    """Images: uint8 (N, H, W, C) in a file, float (N, C, height, width) in the network."""

    name: ClassVar[str] = "images"
    layout: ClassVar[str] = "NHWC"

    def find(self, folder: Path) -> list[Path]:
        """List the image files in a folder."""
        return list_images(folder)

    def each(self, values: Any) -> Iterator[Any]:
        """Iterate over images; see ``data.images.each_image``."""
        return each_image(values)

    def array(self, value: Any, name: str, channels: int = 3) -> NDArray[np.uint8]:
        """Decode or convert an image; see ``data.images.image_array``."""
        return image_array(value, name, channels)

    def decode(
        self, content: bytes, name: str, channels: int, lock: AbstractContextManager[Any]
    ) -> NDArray[np.uint8]:
        """Decode the bytes of an image file."""
        return decode_bytes(content, name, channels, lock)

    def unusual_values(self, sample: NDArray[Any], content: bytes) -> str:
        """Describe images whose pixels are all equal or dark."""
        return unusual_values(sample, content)

    def prepare(self, raw: Tensor, images: Callable[[Tensor], Tensor]) -> Tensor:
        """Preprocess images."""
        return images(raw)

    def blank(self, count: int, channels: int, size: tuple[int, int]) -> tuple[int, ...]:
        """Return (count, channels, height, width)."""
        return count, channels, *size

    def from_images(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the images."""
        return images

    def split(self, sample: NDArray[Any]) -> list[NDArray[np.uint8]]:
        """Return the image alone."""
        return [sample]

    def join(self, images: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return the image."""
        return images[0]


IMAGES = Images()
