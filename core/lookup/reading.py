"""Read datasets with the readers of plugins."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import Any

from visiongraft.data.readers import DataReader, DataSplits, checked_splits
from visiongraft.errors import DataError
from visiongraft.registry.manager import plugins

log = logging.getLogger("visiongraft")


def read_data(data: Any, targets: str) -> DataSplits | None:
    """Read a dataset with the installed reader that claims it, or that it names.

    Args:
        data: The dataset that the user passed; ``"name:path"`` selects a reader by name.
        targets: The kind of targets that the task can use, such as ``"labels"``.

    Returns:
        The splits, or ``None`` if no reader claims the dataset.

    Raises:
        DataError: Several readers claim the dataset, or the reader cannot read it.
        PluginError: Two plugins provide the named reader.
    """
    reader, rest = named_reader(data)
    if reader is None:
        claiming = _claiming(data, targets)
        if len(claiming) > 1:
            names = " or ".join(f"{each.name}:{data}" for each in claiming)
            raise DataError(f"{data}: {len(claiming)} readers claim it; choose one: {names}")
        if not claiming:
            return None
        reader = claiming[0]
    elif reader.targets != targets:
        raise DataError(
            f"{data}: reader {reader.name!r} returns {reader.targets}, but the task takes {targets}"
        )
    return checked_splits(reader, reader.read(rest), rest)


def read_or_raise(data: Any, targets: str, error: DataError) -> DataSplits:
    """Read a dataset that a task cannot read itself with an installed reader.

    Tasks try their own formats first, so that installing a reader never changes how a dataset is
    read.

    Args:
        data: The dataset that the user passed.
        targets: The kind of targets that the task can use.
        error: The task's own error.

    Returns:
        The splits that have samples.

    Raises:
        DataError: No reader claims the dataset (then ``error``), or it cannot be read.
    """
    found = read_data(data, targets)
    if found is None:
        raise error
    splits = {split: samples for split, samples in found.splits.items() if len(samples)}
    return replace(found, splits=splits)


def named_reader(data: Any) -> tuple[DataReader | None, Any]:
    """Split a dataset of the form ``"name:path"`` into the reader and the path.

    Args:
        data: The dataset that the user passed.

    Returns:
        The reader and the path; ``None`` and the unchanged dataset if it names no reader.

    Raises:
        PluginError: Two plugins provide the reader.
    """
    if not isinstance(data, str) or os.path.exists(data):
        return None, data
    for cut in (i for i, letter in enumerate(data) if letter == ":"):
        if plugins().provides("reader", data[:cut]):
            found: DataReader = plugins().get("reader", data[:cut])
            return found, data[cut + 1 :]
    return None, data


def _claiming(data: Any, targets: str) -> list[DataReader]:
    found = []
    for name, reader in plugins().readers().items():
        if reader.targets != targets:
            continue
        try:
            claims = reader.claims(data)
        except Exception as error:  # a third-party reader may raise any error
            log.warning("reader %r failed to check whether it reads the dataset: %r", name, error)
            continue
        if claims:
            found.append(reader)
    return found
