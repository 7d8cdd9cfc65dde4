"""Data readers: dataset formats that plugins add, for every task that can use their targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from visiongraft.data.samples import Samples
from visiongraft.errors import DataError, PluginError

SPLIT_NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class DataSplits:
    """The splits of a dataset as a reader found them, before a task interprets them.

    Attributes:
        splits: Samples of ``"train"``, ``"validation"`` and ``"test"``, as far as they exist; a
            dataset without splits is all ``"train"``.
        names: Class names in the order of their class ids, including those without samples; empty
            if targets have no classes, or if their order does not matter.
        warnings: One line for each thing that was skipped.
    """

    splits: dict[str, Samples]
    names: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class DataReader(ABC):
    """Base class of readers, which find the samples of one dataset format.

    A task tries the formats that it supports itself first, so that installing a reader never
    changes how a dataset is read that could be read without it.

    Attributes:
        name: Name of the reader. Users select it as ``"name:path"``.
        targets: The kind of targets, as one word that tasks select by. ``"labels"`` are class names
            or class ids: one, or a tuple, list or set of any number of them. A plugin with a task
            of another kind chooses its own word.

    Example:
        ::

            class JsonLines(DataReader):
                name = "jsonl"
                targets = "labels"

                def claims(self, data):
                    return Path(data).suffix == ".jsonl" if isinstance(data, (str, Path)) else False

                def read(self, data):
                    try:
                        rows = [json.loads(line) for line in Path(data).read_text().splitlines()]
                        files = [Path(data).parent / row["file"] for row in rows]
                        labels = [row["label"] for row in rows]
                    except (OSError, ValueError, TypeError, KeyError) as error:
                        raise DataError(f"{data}: {error!r}") from error
                    return DataSplits({"train": FileSamples(files, labels)})
    """

    name: ClassVar[str]
    targets: ClassVar[str]

    @abstractmethod
    def claims(self, data: Any) -> bool:
        """Check quickly, without decoding any image, whether this reader reads a dataset.

        Args:
            data: The dataset that the user passed: a path, or any object.

        Returns:
            Whether ``read`` should be called. Be exact: check a suffix, a marker file, a type.
        """

    @abstractmethod
    def read(self, data: Any) -> DataSplits:
        """Find the samples, without decoding any image.

        Args:
            data: The dataset that the user passed, without the name of the reader.

        Returns:
            Samples by split; use ``FileSamples`` if every image is a file of its own.

        Raises:
            DataError: The dataset is missing or malformed.
        """

    # ---- for checks ----

    def example_data(self, folder: Path, count: int, seed: int) -> Any:
        """Create a small dataset in the format of the reader, for ``visiongraft.testing``.

        The images are small (sides of about 20 to 60 pixels) and of several sizes, not all square.

        Args:
            folder: An empty folder to write to, if the dataset consists of files.
            count: Number of images, at least 8.
            seed: Seed of the images; another seed creates other images.

        Returns:
            A dataset that ``claims`` and ``read`` accept; if it consists of files, a path inside
            ``folder``, or that folder.

        Raises:
            PluginError: The reader does not implement this method.
        """
        raise PluginError(
            f"reader {self.name!r} has no example data for the checks; implement "
            f"{type(self).__name__}.example_data(folder, count, seed)"
        )


def checked_splits(reader: DataReader, found: Any, data: Any) -> DataSplits:
    """Check the result of a reader, so that a fault is attributed to the reader.

    Args:
        reader: The reader.
        found: The result of its ``read``.
        data: The dataset that it read.

    Returns:
        The result.

    Raises:
        DataError: The result is not samples by split, or there are no samples.
    """
    if not isinstance(found, DataSplits):
        raise DataError(f"reader {reader.name!r} returned {type(found).__name__}, not DataSplits")
    for split, samples in found.splits.items():
        if split not in SPLIT_NAMES or not isinstance(samples, Samples):
            raise DataError(
                f"reader {reader.name!r} returned {type(samples).__name__} as split {split!r}; "
                f"splits are Samples named {', '.join(SPLIT_NAMES)}"
            )
    if not any(len(samples) for samples in found.splits.values()):
        raise DataError(f"{data}: reader {reader.name!r} found no samples")
    return found
