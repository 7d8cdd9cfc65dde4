"""Group images of equal size into batches, as a file runs images of one size at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from numpy.typing import NDArray

WINDOW = 8  # batches of images that wait for others of their size
WINDOW_BYTES = 500_000_000  # of the images that wait beyond one batch


class NamedImage(NamedTuple):
    """An image among others.

    Attributes:
        position: Its position.
        name: Its name.
        pixels: Its raw array, of an image uint8 (H, W, C).
    """

    position: int
    name: str
    pixels: NDArray[Any]


def grouped(images: Iterable[tuple[str, NDArray[Any]]], size: int) -> Iterator[list[NamedImage]]:
    """Group images by shape, looking a few batches ahead.

    A group is complete as soon as it has ``size`` images. If too many images wait for others of their
    shape, the group of the one that has waited longest is taken as it is.

    Args:
        images: Names and pixels.
        size: The most images in a group.

    Yields:
        Groups of images of one shape; each image is in one of them, in order within its group.
    """
    waiting: dict[tuple[int, ...], list[NamedImage]] = {}  # the group that has waited longest first
    count = held = 0
    for position, (name, pixels) in enumerate(images):
        group = waiting.setdefault(pixels.shape, [])
        group.append(NamedImage(position, name, pixels))
        count, held = count + 1, held + pixels.nbytes
        if len(group) < size:
            if count <= size or (count < WINDOW * size and held < WINDOW_BYTES):
                continue
            group = next(iter(waiting.values()))
        del waiting[group[0].pixels.shape]
        count, held = count - len(group), held - sum(each.pixels.nbytes for each in group)
        yield group
    yield from waiting.values()
