"""The lines of YOLO's label files: boxes, outlines, or boxes with keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visiongraft.data.annotations.shapes import around
from visiongraft.data.decode import SMALL_FILE_BYTES, printable, read_lines
from visiongraft.data.parsing import parse_number, show_value
from visiongraft.errors import DataError
from visiongraft.plugins.detection.objects import Box

FORM = "expected class id, center x, center y, width and height, the last four in 0..1"
VISIBILITY = (0.0, 1.0, 2.0)  # of a keypoint: not labeled, hidden, visible
MARGIN = 0.01  # keypoints may lie this far outside of their box, as a fraction of the image


@dataclass(frozen=True)
class Keypoints:
    """YOLO's ``kpt_shape``: the keypoints that follow each box.

    Attributes:
        count: Number of keypoints.
        numbers: Numbers for each: 2, or 3 with visibility.
    """

    count: int
    numbers: int

    @property
    def length(self) -> int:
        """Numbers in a line after the class id."""
        return 4 + self.count * self.numbers


@dataclass(frozen=True)
class Line:
    """One line of a label file.

    Attributes:
        where: File and number of the line, for messages.
        class_id: Class id.
        values: The numbers after it.
    """

    where: str
    class_id: int
    values: tuple[float, ...]

    def box(self, keypoints: Keypoints | None) -> Box:
        """Return the box, as fractions of the image; of an outline, the box around it.

        Args:
            keypoints: The keypoints of each line, if these are pose labels.

        Returns:
            x1, y1, x2, y2.

        Raises:
            DataError: The line has another number of values.
        """
        count = len(self.values)
        if count == 4 or (keypoints is not None and count == keypoints.length):
            x, y, w, h = self.values[:4]
            return x - w / 2, y - h / 2, x + w / 2, y + h / 2
        if keypoints is not None:
            raise DataError(
                f"{self.where}: {count} numbers after the class id; with kpt_shape "
                f"[{keypoints.count}, {keypoints.numbers}] expected 4 or {keypoints.length}"
            )
        if count < 6 or count % 2:
            raise DataError(
                f"{self.where}: a line of {count} numbers after the class id is not a box; {FORM}; "
                "pose labels need kpt_shape in data.yaml"
            )
        return around(list(zip(self.values[0::2], self.values[1::2], strict=True)))


def read_label_file(path: Path) -> list[Line]:
    """Read a label file.

    Args:
        path: The file.

    Returns:
        Its lines.

    Raises:
        DataError: It cannot be read, or a line contains other than numbers.
    """
    shown = printable(path)
    lines = enumerate(read_lines(path, SMALL_FILE_BYTES), start=1)
    return [_parse(text, f"{shown}:{number}") for number, text in lines]


def read_keypoints(value: Any, file: Path) -> Keypoints | None:
    """Read ``kpt_shape``.

    Args:
        value: Its value in ``data.yaml``, ``None`` if there is none.
        file: That file, for messages.

    Returns:
        The keypoints of each line; ``None`` if these are not pose labels.

    Raises:
        DataError: It is not a number of keypoints, and 2 or 3.
    """
    if value is None:
        return None
    numbers = [parse_number(str(v)) for v in value] if isinstance(value, list) else []
    match numbers:
        case [int(count), 2 | 3 as each]:
            return Keypoints(count, each)
    raise DataError(
        f"{printable(file)}: kpt_shape={show_value(value)}; expected the number of keypoints, and "
        "2 or 3 numbers for each"
    )


def guess_keypoints(lines: Sequence[Line], warnings: list[str]) -> Keypoints | None:
    """Find out whether lines are pose labels where no ``kpt_shape`` says so.

    Args:
        lines: All lines of a dataset.
        warnings: A line is appended if they are, or may be.

    Returns:
        The keypoints if each has a visibility; ``None`` for boxes and outlines, and if keypoints
        without visibility cannot be told from the points of outlines.
    """
    lengths = {len(line.values) for line in lines}
    length = lengths.pop() if len(lengths) == 1 else 0
    for numbers in (3, 2) if length > 5 and len(lines) > 2 else ():
        count, rest = divmod(length - 4, numbers)
        if rest or not all(_is_pose(line.values, numbers) for line in lines):
            continue
        shape = f"{count} keypoints of {numbers} numbers after a box"
        if numbers == 3:
            warnings.append(
                f"all lines of the label files have {shape}; only the boxes are read (kpt_shape: "
                f"[{count}, {numbers}] in data.yaml says so)"
            )
            return Keypoints(count, numbers)
        warnings.append(
            f"all lines of the label files may have {shape}, but are read as outlines; add "
            f"kpt_shape: [{count}, {numbers}] to data.yaml if these are pose labels"
        )
    return None


def _parse(text: str, where: str) -> Line:
    try:
        first, *values = (float(word) for word in text.split())
    except ValueError:
        raise DataError(
            f"{where}: {text.strip()[:40]!r} contains other than numbers; {FORM}"
        ) from None
    if not first.is_integer():
        raise DataError(f"{where}: {text.strip()[:40]!r} is not a box; {FORM}")
    return Line(where, int(first), tuple(values))


def _is_pose(values: Sequence[float], numbers: int) -> bool:
    """Check whether values can be a box in the image, and keypoints in it."""
    x, y, width, height = values[:4]
    left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if not (width > 0 and height > 0 and min(left, top) >= -MARGIN):
        return False
    if max(right, bottom) > 1 + MARGIN:
        return False
    points = [values[i : i + numbers] for i in range(4, len(values), numbers)]
    if numbers == 3:
        return all(point[2] in VISIBILITY for point in points)
    return all(
        (
            left - MARGIN <= point[0] <= right + MARGIN
            and top - MARGIN <= point[1] <= bottom + MARGIN
        )
        or not any(point)  # a keypoint that is not labeled
        for point in points
    )
