"""Refuse names that no plugin declares, before importing plugins takes seconds.

A distribution may declare all names that its plugins provide, as entry points of the group
``visiongraft.names`` called ``KIND.NAME``, such as ``schedule.lp_ft``. Where every distribution
with plugins does, other names are refused at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visiongraft.errors import PluginError, near_matches
from visiongraft.registry.calls import is_task_file, read_call
from visiongraft.registry.disabled import disabled
from visiongraft.registry.functions import NAMES
from visiongraft.registry.manager import undiscovered
from visiongraft.registry.sources import distributions

SETTINGS = {  # and their kinds
    "task": "task",
    "schedule": "schedule",
    "optimizer": "optimizer",
    "transfer_loss": "loss",
    "adapters": "adapter",
    "scorers": "scorer",
}


def refuse_undeclared(kind: str, name: str) -> None:
    """Refuse a name that no plugin declares.

    Args:
        kind: Such as ``"task"``.
        name: What the user wrote; with ``"distribution:"`` before it, it is not checked.

    Raises:
        PluginError: All distributions with plugins declare their names, and this is none of them.
    """
    _refuse(_declared(), kind, name, name)


def refuse_undeclared_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings of ``fit`` whose name no plugin declares.

    Args:
        settings: Some arguments of ``fit`` by name.

    Raises:
        PluginError: The task, schedule, optimizer, transfer loss or an adapter is not declared, or the
            prefix of the backbone.
        OptionError: The options in such a name cannot be read.
    """
    declared = _declared()
    for setting, kind in SETTINGS.items():
        value = settings.get(setting)
        for one in value if isinstance(value, (list, tuple)) else [value]:
            automatic = (setting, one) == ("schedule", "auto")
            if isinstance(one, str) and not automatic and not is_task_file(one):
                name, _ = read_call(one, "transfer loss" if kind == "loss" else kind)
                _refuse(declared, kind, name, name)
    backbone = str(settings.get("backbone") or "")
    prefix, slash, short = backbone.rpartition("/")
    if slash and not Path(backbone).exists():
        _refuse(declared, "backbone", prefix, backbone, f"/{short}")


def _refuse(
    declared: Mapping[str, set[str]] | None, kind: str, name: str, written: str, ending: str = ""
) -> None:
    """Refuse a name that is not declared; the message has what was written and similar names."""
    if declared is None or ":" in name:
        return
    known = declared.get(kind, set())
    if name not in known:
        hint = near_matches(written, [f"{each}{ending}" for each in known])
        raise PluginError(f"no {kind} {written!r}{hint}")


def _declared() -> dict[str, set[str]] | None:
    """Return the declared names by kind.

    ``None`` if a distribution with plugins declares none, if the user chose plugins, or if they are
    imported already, so that what was registered since is known too.
    """
    if not undiscovered() or disabled():
        return None
    found: dict[str, set[str]] = {}
    for distribution in distributions():
        try:
            points = list(distribution.entry_points.select(group=NAMES))
        except Exception:  # damaged metadata, which discovery reports
            return None
        if not points:
            return None
        for point in points:
            kind, _, name = point.name.partition(".")
            found.setdefault(kind, set()).add(name)
    return found or None
