"""The callbacks and trackers of a run, for when it is resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visiongraft.errors import name_some
from visiongraft.saving.files import read_json, write_json

FILE = "callbacks.json"

Chosen = Sequence[str | object]


@dataclass(frozen=True)
class ChosenCallbacks:
    """What listens to a run.

    Attributes:
        callbacks: Names or objects.
        trackers: Likewise.
    """

    callbacks: Chosen
    trackers: Chosen

    @classmethod
    def on_resume(
        cls, folder: Path | None, given: Mapping[str, Any], defaults: Mapping[str, Any]
    ) -> tuple[ChosenCallbacks, tuple[str, ...]]:
        """Return what the run had, with what is passed again in its place.

        Args:
            folder: The run folder.
            given: The arguments of ``fit`` by name.
            defaults: The default of each argument.

        Returns:
            The callbacks, and warnings about those that cannot be had again.
        """
        stored = _read(folder)
        kept, lost = {}, list[str]()
        for name in ("callbacks", "trackers"):
            if given[name] is defaults[name] and name in stored:
                kept[name] = [one["name"] for one in stored[name] if "name" in one]
                lost += [one["object"] for one in stored[name] if "object" in one]
        warnings = []
        if lost:
            warnings.append(
                "callbacks of the run that are objects are left out unless they are passed again: "
                f"{name_some(lost)}"
            )
        chosen = {name: kept.get(name, given[name]) for name in ("callbacks", "trackers")}
        return cls(**chosen), tuple(warnings)

    def write(self, folder: Path) -> None:
        """Write names, and the classes of objects, into the run folder."""
        values = {"callbacks": self.callbacks, "trackers": self.trackers}
        write_json(folder / FILE, {name: [_stored(c) for c in own] for name, own in values.items()})


def _stored(callback: str | object) -> dict[str, str]:
    if isinstance(callback, str):
        return {"name": callback}
    kind = callback if hasattr(callback, "__qualname__") else type(callback)
    return {"object": f"{kind.__module__}.{kind.__qualname__}"}


def _read(folder: Path | None) -> dict[str, Any]:
    """Read what a run had; nothing of a run that an older version began."""
    if folder is None or not (folder / FILE).is_file():
        return {}
    found = read_json(folder / FILE)
    return found if isinstance(found, dict) else {}
