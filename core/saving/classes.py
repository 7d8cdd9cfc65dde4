"""Names of classes in files, and whether a class is the one that a file names."""

from __future__ import annotations

from typing import Any

HOST = "visiongraft"  # the package whose classes are built in


def class_path(kind: Any) -> str:
    """Return where a class or function is defined.

    Examples:
        >>> from visiongraft.schedules import Phase
        >>> class_path(Phase)
        'visiongraft.schedules:Phase'
    """
    return f"{kind.__module__}:{kind.__qualname__}"


def is_class(recorded: str, kind: Any) -> bool:
    """Check whether a class or function is the one that a file names.

    A class may move to another module, such as from a script into a package. A class of the same name
    that subclasses a built-in one is another class.

    Args:
        recorded: From ``class_path``.
        kind: The class or function.

    Examples:
        >>> from visiongraft.schedules import Phase
        >>> is_class("visiongraft.moved:Phase", Phase), is_class("__main__:Phase", Phase)
        (True, False)
    """
    module, _, name = recorded.partition(":")
    built_in = [m.partition(".")[0] == HOST for m in (module, kind.__module__)]
    return bool(name == kind.__qualname__ and built_in[0] == built_in[1])
