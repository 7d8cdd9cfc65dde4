"""Which plugins the user has disabled, by their names or those of their distributions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from visiongraft.registry.records import normalized

DISABLE_VARIABLE = "VISIONGRAFT_DISABLE_PLUGINS"

_chosen: list[tuple[str, ...]] = []


def disabled(also: Iterable[str] = ()) -> set[str]:
    """Return the names of what is disabled, as ``normalized`` writes them.

    Args:
        also: Further names.

    Returns:
        These names, those that the environment lists, and those of every ``disabling``.
    """
    named = [name for name in os.environ.get(DISABLE_VARIABLE, "").split(",") if name]
    return {normalized(name) for name in [*named, *also, *(n for names in _chosen for n in names)]}


@contextmanager
def disabling(names: Iterable[str]) -> Iterator[None]:
    """Disable further plugins or distributions within a block."""
    _chosen.append(tuple(names))
    try:
        yield
    finally:
        _chosen.pop()
