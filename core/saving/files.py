"""Writing files so that a crash leaves the old content or the new, never half of it."""

from __future__ import annotations

import io
import json
import math
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiongraft.errors import ArtifactError, OptionError, VisiongraftError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image as PillowImage


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: temporary file, fsync, rename.

    Args:
        path: Where to; its folder is made if needed.
        content: What to write.

    Raises:
        VisiongraftError: The file cannot be written, for example because the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise unwritable(path, error) from error


def write_png(path: Path, image: PillowImage.Image) -> None:
    """Write an image as PNG, atomically."""
    content = io.BytesIO()
    image.save(content, "png")
    write_bytes(path, content.getvalue())


def write_figure(path: Path, figure: Figure) -> None:
    """Write a plot as PNG, or as SVG if the path ends so, atomically."""
    content = io.BytesIO()
    figure.savefig(content, format="svg" if path.suffix.lower() == ".svg" else "png")
    write_bytes(path, content.getvalue())


def unwritable(path: Path, error: OSError) -> VisiongraftError:
    """Return the error for a file that cannot be written."""
    return VisiongraftError(
        f"{path} cannot be written: {error.strerror or error}; free some space or choose "
        "another folder"
    )


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented; characters without an encoding are escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode(errors="backslashreplace"))  # a surrogate's escape in JSON, too


def read_json(path: Path) -> Any:
    """Read JSON.

    Args:
        path: The file.

    Returns:
        Its value.

    Raises:
        ArtifactError: It is missing or not JSON.
    """
    if path.exists() and not path.is_file():  # reading from a named pipe would wait
        raise ArtifactError(f"{path} cannot be read: it is not a file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not valid JSON ({error}); it may be damaged") from error


def through_json(value: Any) -> Any:
    """Convert a value to what it is after a round trip through JSON, such as a list for a tuple."""
    return json.loads(json.dumps(value, default=repr))


def numbered(index: int, name: str) -> str:
    """Name what belongs to one of several images, so that equal names do not clash.

    Args:
        index: Position of the image.
        name: Its path, or what it is called.

    Returns:
        Both, without folder and suffix.

    Examples:
        >>> numbered(7, "val/a.jpg")
        '00007-a'
    """
    return f"{index:05d}-{Path(name).stem}"


def write_crops(folder: Path, name: str, image: PillowImage.Image, prediction: Any) -> None:
    """Write the parts of an image that a prediction is about, in a folder for each class.

    Args:
        folder: Where to; ``crops/CLASS/NAME-0.jpg`` and so on are written there.
        name: What the names of the files begin with.
        image: The image.
        prediction: One with a method ``crops()``, which returns class names and boxes: x1, y1, x2, y2 in pixels
            of the image.

    Raises:
        OptionError: The prediction has no such parts.
    """
    own = getattr(prediction, "crops", None)
    if not callable(own):
        raise OptionError(
            f"predictions of type {type(prediction).__name__} have no parts to crop; leave out save_crops"
        )
    for number, (label, box) in enumerate(own()):
        x1, y1 = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
        x2, y2 = min(image.width, math.ceil(box[2])), min(image.height, math.ceil(box[3]))
        if x1 < x2 and y1 < y2:
            place = folder / "crops" / (re.sub(r"[^\w-]+", "-", label).strip("-") or "unnamed")
            place.mkdir(parents=True, exist_ok=True)
            part = image.crop((x1, y1, x2, y2)).convert("RGB")
            part.save(place / f"{name}-{number}.jpg", quality=95)


def write_prediction_files(folder: Path, name: str, prediction: Any) -> None:
    """Write the files that a prediction has, if it has any: see ``Task.predictions``.

    Args:
        folder: Where to.
        name: What their names begin with.
        prediction: What a task, or an exported file, predicted for one image.
    """
    if callable(getattr(prediction, "files", None)):
        for ending, content in prediction.files().items():
            write_bytes(folder / f"{name}.{ending}", content)
