"""The images that exported files are tried on: real ones, random ones, and plain ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.samples import Image, Samples
from visiongraft.errors import DataError

BATCHES = (3, 8)  # images of the batches that are tried
MAX_SINGLE = 1000
PLAIN = {"black": 0, "white": 255, "gray": 128}


class ImageHash:
    """Hash over the shapes and values of images, in order."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, image: Image) -> None:
        """Take one image in."""
        self._digest.update(repr(image.shape).encode() + image.tobytes())

    def hexdigest(self) -> str:
        """Give the hash so far."""
        return self._digest.hexdigest()


class RealImages:
    """Real images, decoded one by one.

    Args:
        samples: Where they come from.
        channels: Channels to decode to.
        size: Height and width that they are resized to, or ``None``.
    """

    def __init__(self, samples: Samples, channels: int, size: tuple[int, int] | None) -> None:
        self.samples = samples
        self.channels = channels
        self.size = size
        self.unreadable: dict[int, str] = {}

    def indices(self, limit: int) -> list[int]:
        """Choose at most so many images, evenly spaced over all.

        Args:
            limit: How many.

        Returns:
            Positions, ascending.
        """
        count = len(self.samples)
        return [i * count // limit for i in range(limit)] if count > limit else list(range(count))

    def load(self, indices: Sequence[int]) -> Iterator[tuple[int, Image, Image]]:
        """Give the readable images.

        Args:
            indices: Positions.

        Yields:
            Position, image as it is, and image as the file takes it.

        Raises:
            DataError: None can be read.
        """
        readable = 0
        for index in indices:
            try:
                image = self.samples.load(index, self.channels)
            except DataError as error:
                self.unreadable[index] = str(error)
                continue
            readable += 1
            yield index, image, image if self.size is None else _resized(image, self.size)
        if not readable:
            first = next(iter(self.unreadable.values()))
            raise DataError(f"none of {len(indices)} images to verify on can be read: {first}")

    def warnings(self) -> tuple[str, ...]:
        """Say what was left out or changed."""
        count = len(self.samples)
        found = []
        if count > MAX_SINGLE:
            found.append(f"{MAX_SINGLE} of {count} real images were tried, evenly spaced")
        if self.unreadable:
            found.append(f"{len(self.unreadable)} unreadable images were left out")
        if self.size is not None:
            found.append(f"all images were resized to {self.size[0]}x{self.size[1]} first")
        return tuple(found)


def sizes_around(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Give image sizes around a network's.

    Args:
        height: The network's, in pixels.
        width: The network's, in pixels.

    Returns:
        Its own, smaller, landscape and portrait.
    """
    return (
        (height, width),
        (height * 2 // 3 + 1, width * 4 // 5 + 1),
        (height + height // 2, 2 * width + 37),
        (2 * height + 41, width + width // 2),
    )


def random_images(
    random: np.random.Generator, count: int, height: int, width: int, channels: int
) -> NDArray[np.uint8]:
    """Make colored blocks under noise: noise alone would shrink to an even gray.

    Args:
        random: Where they come from.
        count: How many.
        height: In pixels.
        width: In pixels.
        channels: Of each.

    Returns:
        uint8 (count, height, width, channels).
    """
    rows, columns = (np.arange(n) * 7 // n for n in (height, width))
    blocks = random.integers(0, 256, (count, 7, 7, channels))[:, rows][:, :, columns]
    noise = random.integers(-40, 41, (count, height, width, channels))
    return (blocks + noise).clip(0, 255).astype(np.uint8)


def plain_images(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Make images without content, where a division by nothing shows.

    Args:
        height: In pixels.
        width: In pixels.
        channels: Of each.

    Returns:
        uint8 (images, height, width, channels), one for each of ``PLAIN``.
    """
    values = np.array(list(PLAIN.values()), dtype=np.uint8)
    return np.tile(values[:, None, None, None], (1, height, width, channels))


def stack_common(images: Sequence[Image]) -> NDArray[np.uint8]:
    """Stack the central parts of images, as large as the smallest height and width.

    Args:
        images: uint8 (H, W, C).

    Returns:
        uint8 (N, H, W, C).
    """
    height, width = (min(image.shape[axis] for image in images) for axis in (0, 1))
    parts = []
    for image in images:
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        parts.append(image[top : top + height, left : left + width])
    return np.stack(parts)


def _resized(image: Image, size: tuple[int, int]) -> Image:
    import torch  # not where files are only checked again
    from torch.nn import functional as F

    x = torch.tensor(image).permute(2, 0, 1)[None].float()
    x = F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
    resized: Image = x[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
    return resized
