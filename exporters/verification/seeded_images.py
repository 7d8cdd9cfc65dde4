"""Images that every machine makes alike, for the results that a certificate holds.

Their pixels are computed with integers and with a random stream that numpy never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.nearest import Size
from visiongraft.exporters.verification.trial_images import PLAIN, sizes_around
from visiongraft.inputs import Inputs

LARGE = 2101  # pixels of the longest side that is tried
MANY = 12  # images of the largest batch
_EACH = 4  # images of each size
_SHAPES = 6
_STEP = np.float32(1 / 128)


@dataclass(frozen=True)
class SeededImage:
    """How to make one image.

    Attributes:
        kind: ``"blocks"``, ``"shapes"``, ``"ramps"``, or one of ``PLAIN``.
        seed: Of the random numbers.
        height: In pixels.
        width: In pixels.
    """

    kind: str
    seed: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.kind} {self.seed} ({self.height}x{self.width})"

    def pixels(self, channels: int) -> NDArray[np.uint8]:
        """Return the image, uint8 (height, width, channels)."""
        if self.kind in PLAIN:
            return np.full((self.height, self.width, channels), PLAIN[self.kind], np.uint8)
        random = np.random.RandomState(self.seed)
        return KINDS[self.kind](random, self.height, self.width, channels)


def seeded_images(
    network_size: Size, fixed_size: Size | None, largest: int, whole: bool
) -> Iterator[tuple[SeededImage, ...]]:
    """Choose images.

    Args:
        network_size: Height and width of the network's input.
        fixed_size: The only height and width of images, or ``None``.
        largest: Largest batch.
        whole: Whether the network sees images at their own size, so that large ones are costly.

    Yields:
        Batches of images of one size: of several sizes, one after the other, many, plain and large.
    """
    height, width = network_size
    kinds, seed = tuple(KINDS), 0

    def some(count: int, size: Size) -> tuple[SeededImage, ...]:
        nonlocal seed
        seed += count
        numbers = range(seed - count, seed)
        return tuple(SeededImage(kinds[i % len(kinds)], i, *size) for i in numbers)

    sizes = [fixed_size] if fixed_size else sizes_around(height, width)
    for size in sizes:
        yield from _split(some(_EACH, size), largest)
    sizes = [fixed_size] if fixed_size else [(height // 2 + 3, width), (height + 1, width // 2 + 5)]
    for size in sizes:
        for _ in range(2):
            yield some(1, size)
    yield from _split(some(MANY, fixed_size or network_size), largest)
    plain = tuple(SeededImage(kind, 0, *(fixed_size or network_size)) for kind in PLAIN)
    yield from _split(plain, largest)
    if fixed_size is None:
        yield some(1, (height if whole else LARGE // 2, LARGE))


def raw_batch(images: Sequence[SeededImage], channels: int, inputs: Inputs) -> NDArray[Any]:
    """Make what a file takes of images of one size."""
    return inputs.from_images(np.stack([image.pixels(channels) for image in images]))


def flipped(images: NDArray[Any], count: int, seed: int) -> NDArray[Any]:
    """Change some values of images by one, and those of latents, which are floats, by a little.

    Args:
        images: A raw batch.
        count: Number of values of each image that change.
        seed: Of the choice.

    Returns:
        Other images of that shape.
    """
    random = np.random.RandomState(seed)
    changed = images.reshape(len(images), -1).copy()
    step, middle = (1, 128) if images.dtype == np.uint8 else (_STEP, 0)
    for image in changed:
        chosen = random.randint(0, image.size, count)
        image[chosen] = np.where(image[chosen] < middle, image[chosen] + step, image[chosen] - step)
    return changed.reshape(images.shape)


def _split(images: tuple[SeededImage, ...], most: int) -> Iterator[tuple[SeededImage, ...]]:
    for start in range(0, len(images), most):
        yield images[start : start + most]


def _blocks(
    random: np.random.RandomState, height: int, width: int, channels: int
) -> NDArray[np.uint8]:
    """Colored blocks under noise: noise alone would shrink to an even gray."""
    rows, columns = (np.arange(n) * 7 // n for n in (height, width))
    blocks = random.randint(0, 256, (7, 7, channels))[rows][:, columns]
    noise = random.randint(-40, 41, (height, width, channels))
    image: NDArray[np.uint8] = (blocks + noise).clip(0, 255).astype(np.uint8)
    return image


def _ramps(
    random: np.random.RandomState, height: int, width: int, channels: int
) -> NDArray[np.uint8]:
    """Slopes up and down, of another steepness and direction in each channel."""
    y, x = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    down, across = random.randint(-900, 901, (2, channels))
    values = (down * y // height + across * x // width + random.randint(0, 512, channels)) % 512
    image: NDArray[np.uint8] = np.minimum(values, 511 - values).astype(np.uint8)
    return image


def _shapes(
    random: np.random.RandomState, height: int, width: int, channels: int
) -> NDArray[np.uint8]:
    """Ellipses and rectangles on slopes: things to find."""
    image: NDArray[np.uint8] = _ramps(random, height, width, channels) // 2 + 64
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    for _ in range(_SHAPES):
        top, left = int(random.randint(0, height)), int(random.randint(0, width))
        tall, wide = (int(random.randint(n // 12 + 1, n // 4 + 2)) for n in (height, width))
        color = random.randint(0, 256, channels)
        inside = (abs(y - top) <= tall) & (abs(x - left) <= wide)
        if random.randint(0, 2):
            inside = ((y - top) * wide) ** 2 + ((x - left) * tall) ** 2 <= (tall * wide) ** 2
        image[inside] = color
    return image


KINDS: dict[str, Callable[..., NDArray[np.uint8]]] = {
    "blocks": _blocks,
    "shapes": _shapes,
    "ramps": _ramps,
}
