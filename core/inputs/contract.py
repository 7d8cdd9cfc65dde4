"""The contract of a kind of input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from visiongraft.errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor

AXES = {"N": "batch", "H": "height", "W": "width"}  # the axes of a layout that have any size


class Inputs(ABC):
    """What the samples of a task are, from a file to the graph.

    A raw sample is an array as ``Samples.load`` returns it. A batch of them is what an exported file
    takes; the preprocessing, which is part of the file, makes the network's input of it. The first axis
    is the batch everywhere.

    Attributes:
        name: Of the graph's input, and in messages: the plural of a sample.
        layout: A letter for each axis of a raw batch: N samples, T frames, C channels, H height,
            W width, D values.
        dtype: Type of raw values.
        drawn: Whether samples are drawn at random. Those to train on are images then, since nobody has
            files of what is drawn.
    """

    name: ClassVar[str]
    layout: ClassVar[str]
    dtype: ClassVar[str] = "uint8"
    drawn: ClassVar[bool] = False

    # ---- from files and arrays ----

    @abstractmethod
    def find(self, folder: Path) -> list[Path]:
        """List the samples in a folder and its subfolders, sorted.

        Raises:
            DataError: A folder cannot be read.
        """

    @abstractmethod
    def each(self, values: Any) -> Iterator[Any]:
        """Iterate over what a user wants predicted, neither decoded nor checked.

        Args:
            values: One sample, a folder, or several samples.

        Raises:
            DataError: A folder contains none, or ``values`` is of another kind.
        """

    def draw(self, count: int, seed: int = 0) -> NDArray[Any]:
        """Draw raw samples at random, where that makes sense.

        Args:
            count: How many.
            seed: Of the random numbers.

        Raises:
            OptionError: Samples of this kind are not drawn.
        """
        raise OptionError(f"{self.name} are not drawn at random; pass files or folders")

    def is_path(self, path: Path) -> bool:
        """Check whether there is what ``array`` reads at a path."""
        return path.is_file()

    @abstractmethod
    def array(self, value: Any, name: str, channels: int = 3) -> NDArray[Any]:
        """Convert a path or a value in memory to a raw sample.

        Args:
            value: One item of ``each``.
            name: Its name in messages.
            channels: Number of color channels.

        Raises:
            DataError: It cannot be read or converted; the message names it.
        """

    @abstractmethod
    def decode(
        self, content: bytes, name: str, channels: int, lock: AbstractContextManager[Any]
    ) -> NDArray[Any]:
        """Decode the bytes of a file to a raw sample; see ``Samples.content``.

        Args:
            content: The bytes.
            name: Name of the sample in messages.
            channels: Number of color channels.
            lock: Acquired while a sample is decoded that needs much memory.

        Raises:
            DataError: It cannot be decoded.
        """

    def unusual_values(self, sample: NDArray[Any], content: bytes) -> str:
        """Describe what is unusual about the values of a decoded file; see ``data.pixels``."""
        return ""

    # ---- shapes ----

    def lengths(self) -> dict[str, int]:
        """Return the lengths of further axes than height, width and channels, by letter."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return what an exported file says about its input, beyond the layout, as JSON values."""
        return {}

    @classmethod
    def described(cls, entry: Mapping[str, Any]) -> Self | None:
        """Create the object from ``describe``'s values, or return ``None`` if they are damaged."""
        return cls()

    def shape(self, count: Any, channels: Any, height: Any, width: Any) -> tuple[Any, ...]:
        """Return the shape of a raw batch."""
        known = {"N": count, "C": channels, "H": height, "W": width, **self.lengths()}
        return tuple(known[axis] for axis in self.layout)

    @property
    def has_size(self) -> bool:
        """Whether raw samples have a height and a width."""
        return "H" in self.layout

    def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return height and width in the shape of a raw batch."""
        return shape[self.layout.index("H")], shape[self.layout.index("W")]

    def axes(self, fixed_size: bool = False) -> dict[int, str]:
        """Return the names of the axes of a raw batch that have any size, by position.

        Args:
            fixed_size: Whether height and width are fixed.
        """
        free = {"N": AXES["N"]} if fixed_size else AXES
        return {i: free[axis] for i, axis in enumerate(self.layout) if axis in free}

    def is_sample(self, value: Any, channels: int) -> bool:
        """Check whether a value is a raw sample."""
        if not isinstance(value, np.ndarray) or value.dtype != self.dtype:
            return False
        expected = self.shape(None, channels, None, None)[1:]
        return value.ndim == len(expected) and all(
            required in (None, given) and given
            for required, given in zip(expected, value.shape, strict=True)
        )

    # ---- in the network ----

    @abstractmethod
    def prepare(self, raw: Tensor, images: Callable[[Tensor], Tensor]) -> Tensor:
        """Make network input of a raw batch, with operators that can be traced.

        Args:
            raw: The batch.
            images: Preprocesses raw images, uint8 (N, H, W, C), to float (N, C, height, width).

        Returns:
            The network's input; the batch is the first axis.
        """

    @abstractmethod
    def blank(self, count: int, channels: int, size: tuple[int, int]) -> tuple[int, ...]:
        """Return the shape of a batch of the network's input, such as for a trial.

        Args:
            count: Number of samples.
            channels: Number of color channels.
            size: Height and width of the network's input.
        """

    # ---- trials ----

    @abstractmethod
    def from_images(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """Make a raw batch of generated images, uint8 (N, H, W, C), the same on every machine."""

    @abstractmethod
    def split(self, sample: NDArray[Any]) -> list[NDArray[np.uint8]]:
        """Return the images, uint8 (H, W, C), that a raw sample consists of."""

    @abstractmethod
    def join(self, images: list[NDArray[np.uint8]]) -> NDArray[Any]:
        """Make a raw sample of the images that it consists of: the inverse of ``split``."""

    def shown(self, sample: NDArray[Any]) -> NDArray[np.uint8] | None:
        """Return the image, uint8 (H, W, C), that predictions for a raw sample are drawn on, if any."""
        images = self.split(sample)
        return images[len(images) // 2] if images else None

    def cropped(self, sample: NDArray[Any], height: int, width: int) -> NDArray[Any]:
        """Return the central part of a raw sample that has a height and width."""
        found = self.size((1, *sample.shape))
        top, left = (found[0] - height) // 2, (found[1] - width) // 2
        parts = {"H": slice(top, top + height), "W": slice(left, left + width)}
        return sample[tuple(parts.get(axis, slice(None)) for axis in self.layout[1:])]
