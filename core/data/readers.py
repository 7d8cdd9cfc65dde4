"""Data readers: forms of data that plugins add, for every task that can use their targets."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from visiongraft.data.samples import Samples
from visiongraft.errors import DataError, PluginError

log = logging.getLogger("visiongraft")

SPLIT_NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class DataSplits:
    """A dataset as a reader found it, before a task looks at it.

    Attributes:
        splits: Samples of ``"train"``, ``"validation"`` and ``"test"``, those that the data name; a
            set that is not divided is all ``"train"``.
        names: Label names in the order of their class ids, also those without samples; empty
            where targets have none, or where their order does not matter.
        warnings: One line on each thing that was passed over.
    """

    splits: dict[str, Samples]
    names: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class DataReader(ABC):
    """Finds samples in one form of data, such as an archive or an annotation file.

    A task reads the forms it knows itself first, so an installed reader never changes how data
    are read that could be read without it.

    Attributes:
        name: How users ask for the reader: ``"name:path"``.
        targets: What the targets are, in one word that tasks ask for. ``"labels"`` are label names
            or class ids: one, or a tuple, list or set of any number of them. A plugin that brings
            a task of another kind names its own.

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
        """Say whether this reader reads these data; quick, and without decoding any image.

        Args:
            data: What the user gave: a path, or any object.

        Returns:
            Whether ``read`` should be called. Be exact: a file suffix, a marker file, a type.
        """

    @abstractmethod
    def read(self, data: Any) -> DataSplits:
        """Find the samples, without decoding any image.

        Args:
            data: What the user gave, without the reader's name.

        Returns:
            Samples by part; ``FileSamples`` serves where every image is a file of its own.

        Raises:
            DataError: The data are missing or damaged.
        """

    # ---- for checks ----

    def example_data(self, folder: Path, count: int, seed: int) -> Any:
        """Make a small dataset in the reader's form, for ``visiongraft.testing`` to try it on.

        The images are small (about 20 to 60 pixels a side) and of several sizes, not all square.

        Args:
            folder: An empty folder to write into, if the data are files.
            count: How many images, at least 8.
            seed: Another seed gives other images.

        Returns:
            What ``claims`` and ``read`` take; a path inside ``folder``, or that folder, if the data
            are files.

        Raises:
            PluginError: The reader makes none.
        """
        raise PluginError(
            f"reader {self.name!r} has no example data to be checked with; write "
            f"{type(self).__name__}.example_data(folder, count, seed)"
        )


def read_data(data: Any, targets: str) -> DataSplits | None:
    """Read data with the one installed reader that claims them, or that they name.

    Args:
        data: What the user gave; ``"name:path"`` asks for a reader by its name.
        targets: What the task can use, such as ``"labels"``.

    Returns:
        What was found, or ``None`` if no reader claims the data.

    Raises:
        DataError: Several readers claim the data, or the one that does cannot read them.
        PluginError: Two plugins provide the reader that the data name.
    """
    reader, rest = named_reader(data)
    if reader is None:
        claiming = _claiming(data, targets)
        if len(claiming) > 1:
            names = " or ".join(f"{each.name}:{data}" for each in claiming)
            raise DataError(f"{data}: {len(claiming)} readers claim it; say which: {names}")
        if not claiming:
            return None
        reader = claiming[0]
    elif reader.targets != targets:
        raise DataError(
            f"{data}: reader {reader.name!r} gives {reader.targets}, the task takes {targets}"
        )
    return checked_splits(reader, reader.read(rest), rest)


def named_reader(data: Any) -> tuple[DataReader | None, Any]:
    """Take a reader's name off the data.

    Args:
        data: What the user gave.

    Returns:
        The reader and the rest, or ``None`` and the data as they were if they name no reader.

    Raises:
        PluginError: Two plugins provide it.
    """
    from visiongraft.registry.manager import plugins

    if not isinstance(data, str) or os.path.exists(data):
        return None, data
    for cut in (i for i, letter in enumerate(data) if letter == ":"):
        if plugins().provides("reader", data[:cut]):
            found: DataReader = plugins().get("reader", data[:cut])
            return found, data[cut + 1 :]
    return None, data


def _claiming(data: Any, targets: str) -> list[DataReader]:
    from visiongraft.registry.manager import plugins

    found = []
    for name, reader in plugins().readers().items():
        if reader.targets != targets:
            continue
        try:
            claims = reader.claims(data)
        except Exception as error:  # a stranger's reader may raise anything
            log.warning("reader %r cannot tell whether it reads the data: %r", name, error)
            continue
        if claims:
            found.append(reader)
    return found


def checked_splits(reader: DataReader, found: Any, data: Any) -> DataSplits:
    """Hold a reader to its contract, so that a fault is told as the reader's own.

    Args:
        reader: The reader.
        found: What its ``read`` gave.
        data: What it was given.

    Returns:
        What was found.

    Raises:
        DataError: It is something else than samples by part, or there are none.
    """
    if not isinstance(found, DataSplits):
        raise DataError(f"reader {reader.name!r} gave {type(found).__name__}, not DataSplits")
    for part, samples in found.splits.items():
        if part not in SPLIT_NAMES or not isinstance(samples, Samples):
            raise DataError(
                f"reader {reader.name!r} gave {type(samples).__name__} as part {part!r}; it takes "
                f"Samples as {', '.join(SPLIT_NAMES)}"
            )
    if not any(len(samples) for samples in found.splits.values()):
        raise DataError(f"{data}: reader {reader.name!r} found no samples")
    return found
