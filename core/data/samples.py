"""Samples: images and targets that a reader has found but not decoded yet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.decode import decode_file, printable, read_file
from visiongraft.errors import DataError

Image = NDArray[np.uint8]

# Augments one image with its target: (image, target) -> (image, target).
Transform = Callable[[Any, Any], tuple[Any, Any]]


class Samples(ABC):
    """An ordered set of images, or samples of another kind, with targets; cheap to keep, decoded one by one.

    There is deliberately no ``__getitem__``: names, targets and images are read separately, so
    that splitting and counting never decode an image.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the name of a sample in reports: the path of its file, or its position."""

    @abstractmethod
    def target(self, index: int) -> Any:
        """Return the target of a sample as the reader made it; the core never inspects it."""

    @abstractmethod
    def load(self, index: int, channels: int = 3) -> Image:
        """Decode one image, or a sample of another kind.

        Args:
            index: Position of the sample.
            channels: 1 (grayscale), 3 (RGB) or the number of channels in the dataset.

        Returns:
            uint8 (H, W, channels); of a task of other inputs what ``Task.inputs`` describes.

        Raises:
            DataError: The image cannot be read; the message names it.
        """

    def content(self, index: int) -> bytes | None:
        """Return the bytes of the file that ``load`` decodes, or ``None`` if there is none.

        The check before training reads and decodes files in threads and compares their bytes to
        find duplicates; images without a file are loaded one by one, and their pixels compared.
        Samples that wrap others forward this method.

        Args:
            index: Position of the sample.

        Returns:
            The content of the file; ``None`` also if it cannot be read.
        """
        return None

    def problem(self, index: int, height: int, width: int) -> str:
        """Return what is wrong with the target of a sample, such as a mask of another size.

        The check before training calls this once for each readable image; samples with a problem
        are dropped, counted and named. Samples that wrap others forward this method.

        Args:
            index: Position of the sample.
            height: Height of its image in pixels.
            width: Width of its image in pixels.

        Returns:
            One line that names the file or annotation and the problem; empty if there is none.
        """
        return ""

    def checked_target(self, index: int, height: int, width: int) -> tuple[str, Callable[[], Any]]:
        """Return the result of ``problem``, and a function that returns the target.

        The check before training calls this. Override it if ``problem`` has to read the target
        anyway, such as a mask, so that it is read once.

        Args:
            index: Position of the sample.
            height: Height of its image in pixels.
            width: Width of its image in pixels.

        Returns:
            The problem, and the function; call it only if there is no problem.
        """
        return self.problem(index, height, width), partial(self.target, index)

    def attributes(self, index: int) -> Mapping[str, str]:
        """Return what else is known about a sample, such as its site or camera.

        Models are evaluated by groups of samples that share an attribute, see
        ``TransferModel.evaluate``. Samples that wrap others forward this method.

        Args:
            index: Position of the sample.

        Returns:
            Values by name; empty if nothing is known.
        """
        return {}

    def subject(self, index: int) -> str | None:
        """Return the name of the person, patient or place that a sample is of.

        Override it if evaluation should show how well a model does on others than those of training:
        ``evaluate`` then counts the subjects that were in training. Samples that wrap others forward
        this method.

        Args:
            index: Position of the sample.

        Returns:
            The name; ``None`` if samples have no subjects.
        """
        return None

    def subset(self, indices: Sequence[int]) -> Samples:
        """Return some of the samples, in the given order.

        Override it if the samples have attributes of the whole dataset, such as class names, to
        keep them.
        """
        return SampleSubset(self, tuple(indices))


@dataclass(frozen=True)
class FileSamples(Samples):
    """Images in files.

    Attributes:
        paths: One file per sample.
        targets: One target per sample.
        further: Further attributes of each sample, or none at all.

    Raises:
        DataError: The numbers of files and targets differ.
    """

    paths: Sequence[Path]
    targets: Sequence[Any]
    further: Sequence[Mapping[str, str]] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if len(self.paths) != len(self.targets):
            raise DataError(f"{len(self.paths)} images cannot have {len(self.targets)} targets")

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """Return the path."""
        return printable(self.paths[index])

    def target(self, index: int) -> Any:
        """Return the target."""
        return self.targets[index]

    def load(self, index: int, channels: int = 3) -> Image:
        """Decode the file."""
        return decode_file(self.paths[index], channels)

    def attributes(self, index: int) -> Mapping[str, str]:
        """Return the further attributes."""
        return self.further[index] if self.further else {}

    def content(self, index: int) -> bytes | None:
        """Return the bytes of the file, or ``None`` if it cannot be read."""
        try:
            return read_file(self.paths[index])
        except DataError:
            return None


@dataclass(frozen=True)
class WrappedSamples(Samples):
    """Samples that wrap others; subclasses change their targets or add attributes.

    A subclass with further attributes must also keep them in ``subset``.

    Attributes:
        base: The wrapped samples.
    """

    base: Samples

    def __len__(self) -> int:
        return len(self.base)

    def position(self, index: int) -> int:
        """Return the position of a sample in the wrapped samples."""
        return index

    def name(self, index: int) -> str:
        """Return the name in the wrapped samples."""
        return self.base.name(self.position(index))

    def target(self, index: int) -> Any:
        """Return the target in the wrapped samples."""
        return self.base.target(self.position(index))

    def load(self, index: int, channels: int = 3) -> Image:
        """Decode the image from the wrapped samples."""
        return self.base.load(self.position(index), channels)

    def content(self, index: int) -> bytes | None:
        """Return the bytes of the file in the wrapped samples."""
        return self.base.content(self.position(index))

    def problem(self, index: int, height: int, width: int) -> str:
        """Return the problem in the wrapped samples."""
        return self.base.problem(self.position(index), height, width)

    def attributes(self, index: int) -> Mapping[str, str]:
        """Return the attributes in the wrapped samples."""
        return self.base.attributes(self.position(index))

    def subject(self, index: int) -> str | None:
        """Return the subject in the wrapped samples."""
        return self.base.subject(self.position(index))


@dataclass(frozen=True)
class TargetSamples(WrappedSamples):
    """Samples with targets of their own; subclasses may add attributes of the whole dataset.

    Attributes:
        base: The images.
        targets: One target per image.
    """

    targets: tuple[Any, ...]

    def target(self, index: int) -> Any:
        """Return the target."""
        return self.targets[index]

    def subset(self, indices: Sequence[int]) -> Self:
        """Return some of the samples, in the given order, with the same further attributes."""
        targets = tuple(self.targets[i] for i in indices)
        return replace(self, base=self.base.subset(indices), targets=targets)


@dataclass(frozen=True)
class SampleSubset(WrappedSamples):
    """A selection of other samples.

    Attributes:
        base: The samples that they are selected from.
        indices: Positions of the selected samples, in this order.
    """

    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def position(self, index: int) -> int:
        """Return the position of a selected sample in the wrapped samples."""
        return self.indices[index]

    def checked_target(self, index: int, height: int, width: int) -> tuple[str, Callable[[], Any]]:
        """Return problem and target in the wrapped samples."""
        return self.base.checked_target(self.position(index), height, width)


@dataclass(frozen=True)
class Splits:
    """The training and validation samples of a task.

    Attributes:
        train: Training samples.
        validation: Validation samples.
        facts: Counts and remarks for reports and the model card (JSON values), such as the number
            of samples per class, and how the dataset was split.
        warnings: One line for each issue that a user should know about before training: an empty
            class, only one class, a class that is missing in one split.
    """

    train: Samples
    validation: Samples
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluationSplit:
    """The samples that a trained model is evaluated on.

    Attributes:
        samples: The samples.
        split: Which split of the dataset they are, such as ``"test"``; ``"all"`` for all images of a
            dataset without splits; ``None`` if unknown.
        warnings: One line for each issue that a user should know about: what was skipped, or may not
            mean what it says.
        subjects: What the names of ``Samples.subject`` stand for, in the plural, such as ``"patients"``.
    """

    samples: Samples
    split: str | None = None
    warnings: tuple[str, ...] = ()
    subjects: str = "subjects"
