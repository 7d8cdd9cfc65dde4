"""Files that name the classes of mask values or colors."""

from __future__ import annotations

from pathlib import Path

from visiongraft.data.decode import SMALL_FILE_BYTES, printable, read_lines
from visiongraft.data.labels import LabelMap, class_name
from visiongraft.data.parsing import parse_number, read_table, show_value
from visiongraft.errors import DataError
from visiongraft.plugins.segmentation.formats.masks import Color

CLASSES = ("classes.txt", "class_names.txt")  # the second as labelme2voc writes it
LABEL_MAP = "labelmap.txt"  # as CVAT writes it
VALUES = "_classes.csv"  # as Roboflow writes it
COLORS = (
    "label_colors.txt",
    "label_colours.txt",
    "colormap.txt",
    "label_colors.csv",
    "label_colours.csv",
    "colormap.csv",
    "class_dict.csv",
    LABEL_MAP,
)


def read_classes(root: Path) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """Read class names, and their colors for color masks.

    Args:
        root: The dataset's folder. It may contain ``classes.txt`` or ``class_names.txt``, one name
            per line in the order of the mask values; ``_classes.csv`` with the columns pixel value
            and class; or a color map with lines ``R G B name``, a CSV file with the columns name,
            r, g, b, or CVAT's ``labelmap.txt`` with lines ``name:R,G,B:parts:actions``.

    Returns:
        Names in the order of the mask values, and one color per name or none. No names if there
        is no such file.

    Raises:
        DataError: A file cannot be read, is empty, or contains a class or color twice.
    """
    names: tuple[str, ...] = ()
    colors: tuple[Color, ...] = ()
    listing = next((root / name for name in CLASSES if (root / name).is_file()), None)
    if listing is not None:
        names = _unique_names(listing, _lines(listing))
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
                f"{printable(found[0])} and {(listing or root / VALUES).name} beside it contain "
                "different classes; remove one"
            )
        names = listed
    return names, colors


def _lines(path: Path) -> list[str]:
    return read_lines(path, SMALL_FILE_BYTES)


def _unique_names(path: Path, names: list[str]) -> tuple[str, ...]:
    if not names:
        raise DataError(f"{printable(path)} contains no class names")
    try:
        return LabelMap(tuple(map(class_name, names))).names
    except DataError as error:
        raise DataError(f"{printable(path)}: {error}") from None


def _names_by_value(path: Path) -> list[str]:
    columns, rows = read_table(path)
    names = {parse_number(row[columns[0]]): row[columns[-1]] for _, row in rows}
    if len(columns) != 2 or list(names) != list(range(len(rows))):
        raise DataError(
            f"{printable(path)}: expected lines of value and name, with values from 0 without gaps"
        )
    return list(names.values())


def _read_colors(path: Path) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    if path.suffix.lower() == ".csv":
        columns, rows = read_table(path)
        if not {"name", "r", "g", "b"} <= set(columns):
            raise DataError(f"{printable(path)} must have the columns name, r, g, b")
        entries = [[row[column] for column in ("r", "g", "b", "name")] for _, row in rows]
    elif path.name == LABEL_MAP:
        entries = [_label_map_entry(line) for line in _lines(path) if not line.startswith("#")]
    else:
        entries = [line.split(maxsplit=3) for line in _lines(path)]
    names, colors = [], []
    for number, entry in enumerate(entries, 1):
        color = _color(entry[:3])
        if len(entry) < 4 or color is None or not entry[3].strip():
            expected = "three numbers from 0 to 255 and a name"
            raise DataError(
                f"{printable(path)}, entry {number}: {show_value(entry)} is not {expected}"
            )
        colors.append(color)
        names.append(entry[3].strip())
    if len(set(colors)) < len(colors):
        raise DataError(f"{printable(path)} contains a color twice")
    return _unique_names(path, names), tuple(colors)


def _label_map_entry(line: str) -> list[str]:
    name, _, rest = line.partition(":")
    return [*rest.partition(":")[0].split(","), name]


def _color(cells: list[str]) -> Color | None:
    values = [value for cell in cells if (value := parse_number(cell)) is not None and value < 256]
    return (values[0], values[1], values[2]) if len(cells) == len(values) == 3 else None
