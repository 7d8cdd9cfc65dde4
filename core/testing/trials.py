"""A plugin under trial: what all trials have in common."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Self


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
