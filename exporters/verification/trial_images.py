"""The images that exported files are tried and timed on: real, random and plain ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from visiongraft.data.nearest import Size
from visiongraft.data.samples import Image, Samples
from visiongraft.errors import DataError
from visiongraft.inputs import IMAGES, Inputs

BATCHES = (3, 8)  # sizes of the batches that are tried
MAX_SINGLE = 1000
PLAIN = {"black": 0, "white": 255, "gray": 128}


class ImageHash:
    """Hash of the shapes and values of images, in order."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, image: NDArray[Any]) -> None:
        """Add one image, or a raw sample of another kind."""
        self._digest.update(repr(image.shape).encode() + image.tobytes())

    def hexdigest(self) -> str:
        """Return the hash so far."""
        return self._digest.hexdigest()


@dataclass(frozen=True)
class RealImage:
    """One decoded image.

    Attributes:
        index: Position among the samples.
        name: Name in messages.
        original: A raw sample, of an image uint8 (H, W, C), as decoded.
        pixels: The same at the size that the file takes.
        inputs: What it is.
    """

    index: int
    name: str
    original: NDArray[Any]
    pixels: NDArray[Any]
    inputs: Inputs = IMAGES

    @property
    def position(self) -> str:
        """Return the name for the certificate, which must not reveal file names."""
        return f"image {self.index}"

    @property
    def sizes(self) -> tuple[Size, Size]:
        """Height and width of ``pixels`` and of ``original``."""
        taken, original = (self.inputs.size((1, *a.shape)) for a in (self.pixels, self.original))
        return taken, original


class RealImages:
    """Real images, decoded one by one.

    Args:
        samples: The samples.
        channels: Channels to decode to.
        size: Height and width that images are resized to, or ``None``.
        inputs: What the samples are.
    """

    def __init__(
        self, samples: Samples, channels: int, size: Size | None, inputs: Inputs = IMAGES
    ) -> None:
        self.samples = samples
        self.inputs = inputs
        self.channels = channels
        self.size = size
        self.unreadable: dict[int, str] = {}

    def indices(self, most: int) -> list[int]:
        """Return the positions of at most so many images, evenly spaced, ascending."""
        return evenly_spaced(len(self.samples), most)

    def load(self, indices: Sequence[int]) -> Iterator[RealImage]:
        """Decode images.

        Args:
            indices: Positions.

        Yields:
            The readable ones.

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
            pixels = image if self.size is None else self._resized(image, self.size)
            yield RealImage(index, self.samples.name(index), image, pixels, self.inputs)
        if not readable:
            first = next(iter(self.unreadable.values()))
            kind = self.inputs.name
            raise DataError(f"none of {len(indices)} {kind} to verify on can be read: {first}")

    def _resized(self, sample: NDArray[Any], size: Size) -> NDArray[Any]:
        images = self.inputs.split(sample)
        return self.inputs.join([resized(image, size) for image in images])

    def warnings(self) -> tuple[str, ...]:
        """Return one line on each thing that was left out or changed."""
        count = len(self.samples)
        found = []
        if count > MAX_SINGLE:
            found.append(f"{MAX_SINGLE} of {count} real images were tried, evenly spaced")
        if self.unreadable:
            found.append(f"{len(self.unreadable)} unreadable images were left out")
        if self.size is not None:
            found.append(f"all images were resized to {self.size[0]}x{self.size[1]} first")
        return tuple(found)


def evenly_spaced(count: int, most: int) -> list[int]:
    """Return at most ``most`` of ``count`` positions, evenly spaced, ascending.

    Examples:
        >>> evenly_spaced(10, 4)
        [0, 2, 5, 7]
    """
    return [i * count // most for i in range(most)] if count > most else list(range(count))


def sizes_around(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Return image sizes around a network's: its own, smaller, landscape and portrait."""
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

    Returns:
        uint8 (count, height, width, channels).
    """
    rows, columns = (np.arange(n) * 7 // n for n in (height, width))
    blocks = random.integers(0, 256, (count, 7, 7, channels))[:, rows][:, :, columns]
    noise = random.integers(-40, 41, (count, height, width, channels))
    return (blocks + noise).clip(0, 255).astype(np.uint8)


def plain_images(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Make images without content, where a division by zero shows.

    Returns:
        uint8 (images, height, width, channels), one for each of ``PLAIN``.
    """
    values = np.array(list(PLAIN.values()), dtype=np.uint8)
    return np.tile(values[:, None, None, None], (1, height, width, channels))


def stack_common(samples: Sequence[NDArray[Any]], inputs: Inputs = IMAGES) -> NDArray[Any]:
    """Stack the central parts of images, as large as the smallest height and width.

    Args:
        samples: Raw samples; of images uint8 (H, W, C).
        inputs: What they are.

    Returns:
        A raw batch; of images uint8 (N, H, W, C).
    """
    sizes = zip(*(inputs.size((1, *sample.shape)) for sample in samples), strict=True)
    height, width = map(min, sizes)
    return np.stack([inputs.cropped(sample, height, width) for sample in samples])


def resized(image: Image, size: tuple[int, int]) -> Image:
    """Resize an image of any number of channels to a height and width, bilinear, antialiased."""
    height, width = size
    planes = [
        PillowImage.fromarray(np.ascontiguousarray(image[..., channel])).resize(
            (width, height), PillowImage.Resampling.BILINEAR
        )
        for channel in range(image.shape[2])
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)
