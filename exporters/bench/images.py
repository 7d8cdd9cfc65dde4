"""The images that a benchmark runs on: all of one size, the same for everything measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from visiongraft.data.decode import decode_file, printable
from visiongraft.data.listing import list_images
from visiongraft.errors import DataError
from visiongraft.exporters.runtime.description import InputSpec

_DRAWN = (480, 640)
_MOST = 64  # images that are decoded; larger batches repeat them


@dataclass(frozen=True)
class BenchImages:
    """Images of one size.

    Attributes:
        source: Where they come from, in words.
        images: uint8 (count, height, width, 3).
    """

    source: str
    images: NDArray[np.uint8]

    @classmethod
    def of(cls, data: Path | None, count: int) -> BenchImages:
        """Read images of a folder, evenly spaced, or draw some.

        Args:
            data: The folder, or ``None``.
            count: How many are needed at most.

        Returns:
            The images; where sizes differ, the middle of each that has the smallest height and
            width among them.

        Raises:
            DataError: The folder holds no images, or one cannot be read.
        """
        count = min(count, _MOST)
        if data is None:
            return cls("drawn blocks under noise", _drawn(count))
        paths = list_images(data) if data.is_dir() else []
        if not paths:
            raise DataError(f"{printable(data)} is no folder of images")
        count = min(count, len(paths))
        images = [decode_file(paths[i * len(paths) // count]) for i in range(count)]
        return cls(f"{count} of {data.name}", _middle(images))

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.images.shape[1])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.images.shape[2])

    def raw(self, count: int, channels: int = 3) -> NDArray[np.uint8]:
        """Give a batch as it was read.

        Args:
            count: Images; they repeat if there are fewer.
            channels: The first of them are repeated, or left out, to give so many.

        Returns:
            uint8 (count, height, width, channels).
        """
        images = self.images[np.arange(count) % len(self.images)]
        return np.ascontiguousarray(images[..., np.arange(channels) % 3])

    def batch(
        self, count: int, spec: InputSpec, preprocess: Mapping[str, Any] | None
    ) -> NDArray[Any]:
        """Give a batch as a file takes it.

        Args:
            count: Images.
            spec: What the file takes.
            preprocess: How a file with preprocessed input wants its images, as in its metadata.

        Returns:
            An array of that type and shape.
        """
        images = self.raw(count, spec.channels)
        wanted = preprocess or {}
        size = wanted.get("size") if spec.kind == "float" else None
        height, width = size or (self.height, self.width)
        height, width = spec.height or height, spec.width or width
        if (height, width) != (self.height, self.width):
            images = np.stack([_resized(image, height, width) for image in images])
        if spec.kind == "uint8":
            return images
        mean, std = wanted.get("mean", 0.5), wanted.get("std", 0.5)
        scaled = (images.astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), spec.dtype)


def _drawn(count: int) -> NDArray[np.uint8]:
    random = np.random.default_rng(0)
    rows, columns = (np.arange(n) * 7 // n for n in _DRAWN)
    blocks = random.integers(0, 256, (count, 7, 7, 3))[:, rows][:, :, columns]
    noise = random.integers(-40, 41, (count, *_DRAWN, 3))
    return (blocks + noise).clip(0, 255).astype(np.uint8)


def _middle(images: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    height, width = (min(image.shape[axis] for image in images) for axis in (0, 1))
    parts = []
    for image in images:
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        parts.append(image[top : top + height, left : left + width])
    return np.stack(parts)


def _resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    planes = [
        np.asarray(
            PillowImage.fromarray(np.ascontiguousarray(image[..., c])).resize(
                (width, height), PillowImage.Resampling.BILINEAR
            )
        )
        for c in range(image.shape[2])
    ]
    return np.stack(planes, axis=2)
