"""Surgical and adaptive schedules, registered like those of third parties."""

from __future__ import annotations

from visiongraft.hookspecs import hookimpl
from visiongraft.plugins.schedules.auto_rgn import auto_rgn
from visiongraft.plugins.schedules.surgical import surgical
from visiongraft.plugins.schedules.thaw_on_plateau import thaw_on_plateau
from visiongraft.schedules import Schedule


@hookimpl
def register_schedules() -> list[Schedule]:
    """Return the schedules of this package."""
    return [surgical, auto_rgn, thaw_on_plateau]
