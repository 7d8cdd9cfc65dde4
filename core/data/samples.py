"""Samples: what a reader finds before any image is decoded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.decode import decode_file, printable
from visiongraft.errors import DataError

Image = NDArray[np.uint8]

# Augments one image with its target: (image, target) -> (image, target).
Transform = Callable[[Any, Any], tuple[Any, Any]]


class Samples(ABC):
    """An ordered set of images with their targets; cheap to hold, decoded one by one.

    ``__getitem__`` is not offered on purpose: names, targets and images are asked for
    separately, so that splitting and counting never decode an image.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """Name one sample in reports: its path if it is a file of its own, else its position."""

    @abstractmethod
    def target(self, index: int) -> Any:
        """Give the target of one sample as the reader made it; the core never looks inside."""

    @abstractmethod
    def load(self, index: int, channels: int = 3) -> Image:
        """Decode one image.

        Args:
            index: Position of the sample.
            channels: 1 (gray), 3 (RGB) or what the data holds.

        Returns:
            uint8 (H, W, channels).

        Raises:
            DataError: The image cannot be read; the message names it.
        """

    def content(self, index: int) -> bytes | None:
        """Give the image's file as ``load`` decodes it, or ``None`` if it has none of its own.

        The check before training reads these in threads, decodes them, and compares them to find
        duplicates; images without one are loaded one by one, and their pixels compared. A set
        that wraps another passes this on.

        Args:
            index: Position of the sample.

        Returns:
            What the file holds; ``None`` also if it cannot be read.
        """
        return None

    def problem(self, index: int, height: int, width: int) -> str:
        """Say what is wrong with a sample's target, such as a mask of another size.

        The check before training asks once for each readable image; samples with a problem are
        dropped, counted and named. A set that wraps another passes this on.

        Args:
            index: Position of the sample.
            height: Height of its image in pixels.
            width: Width of its image in pixels.

        Returns:
            One line that names the thing and what is wrong with it, or nothing.
        """
        return ""

    def subset(self, indices: Sequence[int]) -> Samples:
        """Take some samples, in the given order.

        Override it where samples carry facts of the whole set, such as label names, to keep them.
        """
        return SampleSubset(self, tuple(indices))


@dataclass(frozen=True)
class FileSamples(Samples):
    """Images in files.

    Attributes:
        paths: One file per sample.
        targets: One target per sample.

    Raises:
        DataError: There are more or fewer targets than files.
    """

    paths: Sequence[Path]
    targets: Sequence[Any]

    def __post_init__(self) -> None:
        if len(self.paths) != len(self.targets):
            raise DataError(f"{len(self.paths)} images cannot have {len(self.targets)} targets")

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """Give the path."""
        return printable(self.paths[index])

    def target(self, index: int) -> Any:
        """Give the target."""
        return self.targets[index]

    def load(self, index: int, channels: int = 3) -> Image:
        """Decode the file."""
        return decode_file(self.paths[index], channels)

    def content(self, index: int) -> bytes | None:
        """Give the file's bytes, or ``None`` if it cannot be read."""
        try:
            return self.paths[index].read_bytes()
        except OSError:
            return None


@dataclass(frozen=True)
class WrappedSamples(Samples):
    """The samples of another set, of which a subclass gives targets or facts of its own.

    A subclass that carries more than the set must also take it along in ``subset``.

    Attributes:
        base: The set.
    """

    base: Samples

    def __len__(self) -> int:
        return len(self.base)

    def name(self, index: int) -> str:
        """Give the name in the base set."""
        return self.base.name(index)

    def target(self, index: int) -> Any:
        """Give the target in the base set."""
        return self.base.target(index)

    def load(self, index: int, channels: int = 3) -> Image:
        """Decode from the base set."""
        return self.base.load(index, channels)

    def content(self, index: int) -> bytes | None:
        """Give the bytes in the base set."""
        return self.base.content(index)

    def problem(self, index: int, height: int, width: int) -> str:
        """Ask the base set."""
        return self.base.problem(index, height, width)


@dataclass(frozen=True)
class SampleSubset(Samples):
    """Some samples of another set.

    Attributes:
        base: The set they come from.
        indices: Which ones, in this order.
    """

    base: Samples
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        """Give the name in the base set."""
        return self.base.name(self.indices[index])

    def target(self, index: int) -> Any:
        """Give the target in the base set."""
        return self.base.target(self.indices[index])

    def load(self, index: int, channels: int = 3) -> Image:
        """Decode from the base set."""
        return self.base.load(self.indices[index], channels)

    def content(self, index: int) -> bytes | None:
        """Give the bytes in the base set."""
        return self.base.content(self.indices[index])

    def problem(self, index: int, height: int, width: int) -> str:
        """Ask the base set."""
        return self.base.problem(self.indices[index], height, width)


@dataclass(frozen=True)
class Splits:
    """What a task's reader returns.

    Attributes:
        train: Samples to learn from.
        validation: Held-out samples.
        facts: Counts and remarks for reports and the model card (JSON values), such as samples
            per label, and how the split was made.
        warnings: One line each on what a user should know before training: an empty class, one
            class only, a label that is missing in one part.
    """

    train: Samples
    validation: Samples
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
