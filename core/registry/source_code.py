"""Digests of the source code that a plugin's classes come from."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HOST = "visiongraft"


def source_digests(items: Iterable[Any]) -> dict[str, str]:
    """Hash the source files of modules that classes and functions are defined in.

    Besides each module, those count that are loaded from the package around it: helpers of a
    plugin. What is defined in a script or notebook is hashed by itself, without the code around it.

    Args:
        items: Classes and functions.

    Returns:
        SHA-256 by the name of a module, or of a class or function of a script; what has no source is
        left out.
    """
    found: dict[str, str] = {}
    for item in items:
        module = inspect.getmodule(item)
        if module is None or module.__name__ == "__main__":
            name = getattr(item, "__qualname__", repr(item))
            found.update(_of_definition(name, item))
            continue
        for name in _modules_around(module.__name__):
            found.update(_of_file(name))
    return found


def _modules_around(name: str) -> list[str]:
    package = name if hasattr(sys.modules[name], "__path__") else name.rpartition(".")[0]
    if package in ("", HOST):
        return [name]
    return [name, *(other for other in list(sys.modules) if f"{other}.".startswith(f"{package}."))]


def _of_file(name: str) -> dict[str, str]:
    path = getattr(sys.modules.get(name), "__file__", None)
    if not path or not path.endswith(".py"):
        return {}
    try:
        return {name: hashlib.sha256(Path(path).read_bytes()).hexdigest()}
    except OSError:
        return {}


def _of_definition(name: str, item: Any) -> dict[str, str]:
    try:
        return {name: hashlib.sha256(inspect.getsource(item).encode()).hexdigest()}
    except (OSError, TypeError):
        return {}
