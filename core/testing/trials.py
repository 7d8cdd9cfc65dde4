"""A plugin under trial: what all trials and their checks have in common."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Self

NOISE = bytes(range(128, 256)) * 4  # not text, an archive or a table


class Trial:
    """A plugin under trial; several checks share it, and a folder for their files.

    Args:
        what: What to check; see the subclass.
    """

    def __init__(self, what: Any) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="visiongraft-check-")

    @classmethod
    def of(cls, subject: Any) -> Self:
        """Return the trial itself, or a new one."""
        return subject if isinstance(subject, cls) else cls(subject)

    def folder(self, name: str) -> Path:
        """Create a new folder."""
        path = Path(self._folder.name) / f"{len(list(Path(self._folder.name).iterdir()))}-{name}"
        path.mkdir()
        return path


def strange_data(folder: Path) -> dict[str, Any]:
    """Create what no plugin can read, in an empty folder; by its description."""
    (folder / "empty").mkdir()
    (folder / "noise.bin").write_bytes(NOISE)
    return {
        "a path that does not exist": folder / "nowhere",
        "an empty folder": folder / "empty",
        "a file of noise": folder / "noise.bin",
        "a number": 7,
        "None": None,
        "an empty list": [],
    }


def is_text(value: object) -> bool:
    """Check whether a value is a string that is not empty."""
    return isinstance(value, str) and bool(value)


def is_identifier(value: object) -> bool:
    """Check whether a value is an identifier, in which hyphens are allowed."""
    return isinstance(value, str) and value.replace("-", "_").isidentifier()
