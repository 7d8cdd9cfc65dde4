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
    name = getattr(kind, "__qualname__", type(kind).__qualname__)
    return f"{kind.__module__}:{name}"


def is_class(recorded: str, present: str) -> bool:
    """Check whether a class or function is the one that a file names.

    A class may move to another module, such as from a script into a package. A class of the same name
    that subclasses a built-in one is another class.

    Args:
        recorded: What ``class_path`` returned when the file was written.
        present: What ``class_path`` returns now.

    Examples:
        >>> is_class("__main__:Count", "mine.tasks:Count")
        True
        >>> is_class("__main__:Count", "visiongraft.plugins.tasks:Count")
        False
    """
    (module, _, name), (other, _, other_name) = recorded.partition(":"), present.partition(":")
    built_in = [m.partition(".")[0] == HOST for m in (module, other)]
    return name == other_name and built_in[0] == built_in[1]
