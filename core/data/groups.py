"""Which group each sample is in: by an attribute, a table beside the dataset, or a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from visiongraft.data.parsing import read_table
from visiongraft.data.samples import Samples
from visiongraft.errors import OptionError, near_matches

SMALL = 20  # images, below which a group is flagged and not compared with others
TABLE = ".csv"
COLUMNS = ("path", "group")  # of such a table


def group_names(
    samples: Samples, groups: str | Path | Callable[[str], str], option: str = "groups"
) -> list[str]:
    """Return the name of the group of each sample; ``""`` for those of which it is not known.

    Args:
        samples: The samples.
        groups: An attribute of the samples, such as a further column of the table that they were read from; a
            file with the columns ``path`` and ``group``, whose paths are relative to its folder; or a function from
            the name of a sample, such as its path, to the name of its group.
        option: What the user calls it, for messages.

    Raises:
        OptionError: No sample has the attribute or is in the table.
        DataError: The table cannot be read.
    """
    count = range(len(samples))
    if callable(groups):
        return [str(groups(samples.name(index))) for index in count]
    if str(groups).lower().endswith(TABLE):
        return _by_table(samples, Path(groups), option)
    name = str(groups)
    known = [samples.attributes(index) for index in count]
    if not any(name in attributes for attributes in known):
        others = {other for attributes in known for other in attributes}
        hint = near_matches(name, others) or (
            "; a table may have further columns, such as site, or pass a file GROUPS.csv with the columns path and group"
        )
        raise OptionError(f"{option}={name!r}: no sample has this attribute{hint}")
    return [attributes.get(name, "") for attributes in known]


def read_groups(table: Path, option: str) -> dict[Path, str]:
    """Read a table of groups.

    Args:
        table: A file with the columns ``path`` and ``group``; paths are relative to its folder.
        option: What the user calls it, for messages.

    Returns:
        The group of each absolute path.

    Raises:
        OptionError: A column is missing, or a path is in two groups.
        DataError: The table cannot be read.
    """
    columns, rows = read_table(table)
    for column in COLUMNS:
        if column not in columns:
            raise OptionError(
                f"{option}={str(table)!r} lacks the column {column!r}; it needs {COLUMNS}"
            )
    stated: dict[Path, str] = {}
    for line, row in rows:
        path = (table.parent / row["path"]).resolve()
        if stated.setdefault(path, row["group"]) != row["group"]:
            raise OptionError(f"{table}, row {line}: {row['path']!r} is in two groups")
    return stated


def _by_table(samples: Samples, table: Path, option: str) -> list[str]:
    stated = read_groups(table, option)
    names = [stated.get(Path(samples.name(index)).resolve(), "") for index in range(len(samples))]
    if not any(names):
        raise OptionError(
            f"{option}={str(table)!r} has no row for {samples.name(0)!r} nor for any other sample; paths are relative "
            f"to {table.parent}"
        )
    return names
