"""Files that name the classes of mask values or colors."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from visiongraft.data.decode import printable, read_lines
from visiongraft.data.labels import LabelMap
from visiongraft.errors import DataError
from visiongraft.plugins.segmentation.formats.masks import Color

CLASSES = "classes.txt"
VALUES = "_classes.csv"  # as Roboflow writes it
COLORS = (
    "label_colors.txt",
    "label_colours.txt",
    "colormap.txt",
    "label_colors.csv",
    "label_colours.csv",
    "colormap.csv",
    "class_dict.csv",
)


def read_classes(root: Path) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """Read class names, and their colors for color masks.

    Args:
        root: The dataset's folder. It may contain ``classes.txt``, one name per line in the order
            of the mask values; ``_classes.csv`` with the columns pixel value and class; or a color
            map with lines ``R G B name``, or a CSV file with the columns name, r, g, b.

    Returns:
        Names in the order of the mask values, and one color per name or none. No names if there
        is no such file.

    Raises:
        DataError: A file cannot be read, is empty, or contains a class or color twice.
    """
    names: tuple[str, ...] = ()
    colors: tuple[Color, ...] = ()
    if (root / CLASSES).is_file():
        names = _unique_names(root / CLASSES, read_lines(root / CLASSES))
    elif (root / VALUES).is_file():
        names = _unique_names(root / VALUES, _names_by_value(root / VALUES))
    found = [root / name for name in COLORS if (root / name).is_file()]
    if len(found) > 1:
        both = " and ".join(printable(path) for path in found[:2])
        raise DataError(f"{both} are both color maps; remove one of them")
    if found:
        listed, colors = _read_colors(found[0])
        if names and set(names) != set(listed):
            raise DataError(
                f"{printable(found[0])} and {CLASSES} beside it contain different classes; remove one"
            )
        names = listed
    return names, colors


def _unique_names(path: Path, names: list[str]) -> tuple[str, ...]:
    if not names:
        raise DataError(f"{printable(path)} contains no class names")
    try:
        return LabelMap(tuple(names)).names
    except DataError as error:
        raise DataError(f"{printable(path)}: {error}") from None


def _names_by_value(path: Path) -> list[str]:
    rows = csv.reader(io.StringIO("\n".join(read_lines(path)[1:])), skipinitialspace=True)
    names: dict[str, str] = {row[0].strip(): row[1].strip() for row in rows if len(row) == 2}
    if list(names) != [str(i) for i in range(len(names))]:
        raise DataError(
            f"{printable(path)}: expected lines of value and name, with values from 0 without gaps"
        )
    return list(names.values())


def _read_colors(path: Path) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    lines = read_lines(path)
    if path.suffix.lower() == ".csv":
        rows = list(csv.reader(io.StringIO("\n".join(lines))))
        header = [cell.strip().lower() for cell in rows[0]] if rows else []
        if not {"name", "r", "g", "b"} <= set(header):
            raise DataError(f"{printable(path)} must have the columns name, r, g, b")
        order = [header.index(column) for column in ("r", "g", "b", "name")]
        entries = [[row[i] if i < len(row) else "" for i in order] for row in rows[1:]]
    else:
        entries = [line.split(maxsplit=3) for line in lines]
    names, colors = [], []
    for number, entry in enumerate(entries, 1):
        color = _color(entry[:3])
        if len(entry) < 4 or color is None or not entry[3].strip():
            expected = "three numbers from 0 to 255 and a name"
            raise DataError(f"{printable(path)}, entry {number}: {entry} is not {expected}")
        colors.append(color)
        names.append(entry[3].strip())
    if len(set(colors)) < len(colors):
        raise DataError(f"{printable(path)} contains a color twice")
    return _unique_names(path, names), tuple(colors)


def _color(cells: list[str]) -> Color | None:
    values = [int(cell) if cell.strip().isdecimal() else 256 for cell in cells]
    if len(values) != 3 or max(values) > 255:
        return None
    return values[0], values[1], values[2]
