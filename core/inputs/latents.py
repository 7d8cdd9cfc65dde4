"""Latents: vectors of random numbers that a generator makes images of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.images import each_image
from visiongraft.errors import DataError, OptionError
from visiongraft.inputs.contract import Inputs
from visiongraft.inputs.images import IMAGES
from visiongraft.options import check_integer

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Latents(Inputs):
    """Vectors of a generator: float32 (N, D), in a file as in the network.

    What a generator learns from are images: samples to train on are these, and samples to evaluate on
    latents.

    Attributes:
        length: Values of a latent.

    Raises:
        OptionError: It is not an integer of at least 1.
    """

    name: ClassVar[str] = "latents"
    layout: ClassVar[str] = "ND"
    dtype: ClassVar[str] = "float32"
    drawn: ClassVar[bool] = True

    length: int = 64

    def __post_init__(self) -> None:
        check_integer("length", self.length, least=1)

    def draw(self, count: int, seed: int = 0) -> NDArray[np.float32]:
        """Draw latents from the standard normal distribution, the same for equal seeds.

        Args:
            count: How many.
            seed: Of the random numbers, in 0..2**32 - 1.

        Returns:
            float32 (count, length). The first ones do not depend on ``count``.
        """
        # A stream that numpy never changes.
        values = np.random.RandomState(seed).standard_normal((count, self.length))
        return values.astype(np.float32)

    # ---- from files and arrays ----

    def find(self, folder: Path) -> list[Path]:
        """Return nothing: there are no files of latents."""
        return []

    def each(self, values: Any) -> Iterator[Any]:
        """Iterate over latents.

        Args:
            values: An array or tensor (D,) or (N, D), or an iterable of those with one axis.

        Raises:
            DataError: ``values`` is of another kind.
        """
        if isinstance(values, (str, Path)):
            raise DataError(f"latents are drawn, not read from files such as {values}")
        axes = getattr(values, "ndim", 0)
        if axes in (1, 2):
            return iter([values] if axes == 1 else values)
        return each_image(values)

    def array(self, value: Any, name: str, channels: int = 3) -> NDArray[np.float32]:
        """Convert a latent.

        Args:
            value: An array, a tensor, or a sequence of numbers.
            name: Its name in messages.
            channels: Not used.

        Returns:
            float32 (D,).

        Raises:
            DataError: It has another shape, or a value that is not finite.
        """
        try:
            found = np.asarray(value, dtype=np.float32)
        except (TypeError, ValueError):
            found = np.empty(0, np.float32)
        if found.shape != (self.length,) or not np.isfinite(found).all():
            raise DataError(f"{name}: a latent must be {self.length} finite numbers")
        return found

    def decode(
        self, content: bytes, name: str, channels: int, lock: AbstractContextManager[Any]
    ) -> NDArray[Any]:
        """Decode an image to train on."""
        return IMAGES.decode(content, name, channels, lock)

    # ---- shapes ----

    def lengths(self) -> dict[str, int]:
        """Return the number of values."""
        return {"D": self.length}

    def describe(self) -> dict[str, Any]:
        """Return the number of values."""
        return asdict(self)

    @classmethod
    def described(cls, entry: Mapping[str, Any]) -> Self | None:
        """Create latents from ``describe``'s values, or return ``None`` if they are damaged."""
        try:
            return cls(entry["length"])
        except (KeyError, OptionError):
            return None

    def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return height and width of images to train on; of latents one row of values."""
        return (1, self.length) if len(shape) == len(self.layout) else IMAGES.size(shape)

    def is_sample(self, value: Any, channels: int) -> bool:
        """Check whether a value is a latent, or an image to train on."""
        return super().is_sample(value, channels) or IMAGES.is_sample(value, channels)

    # ---- in the network ----

    def prepare(self, raw: Tensor, images: Callable[[Tensor], Tensor]) -> Tensor:
        """Return latents as they are; preprocess images to train on."""
        return raw if raw.ndim == len(self.layout) else images(raw)

    def blank(self, count: int, channels: int, size: tuple[int, int]) -> tuple[int, ...]:
        """Return (count, length)."""
        return count, self.length

    # ---- trials ----

    def from_images(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Make latents of values that are spread over the images, in [-2, 2)."""
        flat = images.reshape(len(images), -1)
        chosen = flat[:, np.arange(self.length) * flat.shape[1] // self.length]
        values: NDArray[np.float32] = chosen.astype(np.float32)
        values = (values - np.float32(128)) / np.float32(64)  # exact: the same on every machine
        return values

    def split(self, sample: NDArray[Any]) -> list[NDArray[np.uint8]]:
        """Return nothing: a latent consists of no images."""
        return []

    def join(self, images: list[NDArray[np.uint8]]) -> NDArray[Any]:
        """Refuse images, which make no latent."""
        raise DataError("latents cannot be resized")
