"""Functions that distributions provide by name, in groups of entry points of their own.

Commands, functions that draw and the like work without PyTorch, so each is imported when it is used, and
``visiongraft plugins`` lists them by their names alone. Otherwise the rules of plugins hold.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint
from typing import Any

from visiongraft.errors import PluginError
from visiongraft.hookspecs import PROJECT
from visiongraft.registry.disabled import DISABLE_VARIABLE, disabled
from visiongraft.registry.isolation import check_import, exits_refused
from visiongraft.registry.records import as_failure, normalized
from visiongraft.registry.settings import UNDONE, kept_settings
from visiongraft.registry.sources import api_of, distributions, points_of

log = logging.getLogger("visiongraft")

NAMES = f"{PROJECT}.names"  # the group that only declares what plugins provide


@dataclass(frozen=True)
class Function:
    """A function by name.

    Attributes:
        kind: What the function is, such as ``"command"``.
        name: Its name.
        owners: Its entry point in each distribution that provides the name.
    """

    kind: str
    name: str
    owners: tuple[tuple[EntryPoint, Distribution], ...]

    def load(self, described: str = "") -> Any:
        """Import the function.

        Args:
            described: What errors call it; by default kind and name.

        Raises:
            PluginError: It cannot be imported, or not without ending the process, or two distributions
                provide the name.
        """
        what = described or f"{self.kind} {self.name!r}"
        if len(self.owners) > 1:
            names = " and ".join(f"{d.name} {d.version}" for _, d in self.owners)
            raise PluginError(
                f"{what} is provided by {names}; disable one with --no-plugin NAME or "
                f"{DISABLE_VARIABLE}=NAME"
            )
        ((point, distribution),) = self.owners
        changes: list[str] = []
        try:
            check_import(point.module, distribution.name)
            with kept_settings(changes), exits_refused():
                function = point.load()
            api_of(sys.modules[point.module])
        except KeyboardInterrupt:  # the user's own: another one was found by the check
            raise
        except BaseException as error:  # a third-party import may raise anything
            cause = as_failure(error)
            raise PluginError(f"{what} ({point.value}) cannot be loaded: {cause}") from error
        for change in changes:
            log.warning("%s of %s %s %s", what, distribution.name, change, UNDONE)
        return function


def functions(group: str) -> dict[str, Function]:
    """Find the functions of a group that are not disabled.

    Args:
        group: Such as ``"visiongraft.commands"``.

    Returns:
        The functions by name, in alphabetical order.
    """
    off = disabled()
    found: dict[str, list[tuple[EntryPoint, Distribution]]] = {}
    for distribution in distributions(functions=True):
        for point in _readable_points(distribution):
            if point.group == group and not is_disabled(point, distribution, off):
                found.setdefault(point.name, []).append((point, distribution))
    kind = kind_of(group)
    return {name: Function(kind, name, tuple(owners)) for name, owners in sorted(found.items())}


def function_points(distribution: Distribution) -> Iterator[tuple[str, EntryPoint]]:
    """List the functions that a distribution provides, disabled or not.

    Args:
        distribution: The distribution.

    Yields:
        The kind of each function, and its entry point.
    """
    for point in _readable_points(distribution):
        if point.group.startswith(f"{PROJECT}.") and point.group != NAMES:
            yield kind_of(point.group), point


def kind_of(group: str) -> str:
    """Return what the functions of a group are.

    Example:
        >>> kind_of("visiongraft.face_detectors")
        'face detector'
    """
    return group.removeprefix(f"{PROJECT}.").removesuffix("s").replace("_", " ")


def is_disabled(point: EntryPoint, distribution: Distribution, off: set[str]) -> bool:
    """Check whether the name of an entry point, or of its distribution, is among those disabled."""
    return not off.isdisjoint({normalized(point.name), normalized(distribution.name)})


def _readable_points(distribution: Distribution) -> list[EntryPoint]:
    points = points_of(distribution)
    return [] if isinstance(points, Exception) else points  # the manager of plugins reports it
