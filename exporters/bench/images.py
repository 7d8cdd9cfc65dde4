"""The images of a benchmark: all of one size, the same for everything that is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.decode import decode_file, printable
from visiongraft.data.listing import list_images
from visiongraft.errors import DataError
from visiongraft.exporters.runtime.description import InputSpec
from visiongraft.exporters.verification.trial_images import (
    evenly_spaced,
    random_images,
    resized,
    stack_common,
)

_RANDOM = (480, 640)
_MOST = 64  # images that are decoded; larger batches repeat them


@dataclass(frozen=True)
class BenchImages:
    """Images of one size.

    Attributes:
        source: Their origin, in words.
        images: uint8 (count, height, width, 3).
    """

    source: str
    images: NDArray[np.uint8]

    @classmethod
    def of(cls, data: Path | None, count: int) -> BenchImages:
        """Read images of a folder, evenly spaced, or make random ones.

        Args:
            data: The folder, or ``None``.
            count: Largest number that is needed.

        Returns:
            The images; if sizes differ, the central part of each that has the smallest height
            and width among them.

        Raises:
            DataError: The folder contains no images, or one cannot be read.
        """
        count = min(count, _MOST)
        if data is None:
            images = random_images(np.random.default_rng(0), count, *_RANDOM, channels=3)
            return cls("random blocks under noise", images)
        paths = list_images(data) if data.is_dir() else []
        if not paths:
            raise DataError(f"{printable(data)} is not a folder of images")
        decoded = [decode_file(paths[i]) for i in evenly_spaced(len(paths), count)]
        return cls(f"{len(decoded)} of {data.name}", stack_common(decoded))

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.images.shape[1])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.images.shape[2])

    def raw(self, count: int, channels: int = 3) -> NDArray[np.uint8]:
        """Return a batch of raw images.

        Args:
            count: Number of images; they repeat if there are fewer.
            channels: Number of channels; the three of the images are repeated or left out.

        Returns:
            uint8 (count, height, width, channels).
        """
        images = self.images[np.arange(count) % len(self.images)]
        return np.ascontiguousarray(images[..., np.arange(channels) % 3])

    def batch(
        self, count: int, spec: InputSpec, preprocess: Mapping[str, Any] | None
    ) -> NDArray[Any]:
        """Return a batch in the form that a file takes.

        Args:
            count: Number of images.
            spec: The file's input.
            preprocess: Preprocessing of a file with preprocessed input, as in its metadata.

        Returns:
            An array of that type and shape.
        """
        images = self.raw(count, spec.channels)
        given = preprocess or {}
        size = given.get("size") if spec.kind == "float" else None
        height, width = size or (self.height, self.width)
        height, width = spec.height or height, spec.width or width
        if (height, width) != (self.height, self.width):
            images = np.stack([resized(image, (height, width)) for image in images])
        if spec.kind != "float":
            return spec.inputs.from_images(images)
        mean, std = given.get("mean", 0.5), given.get("std", 0.5)
        scaled = (images.astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), spec.dtype)
