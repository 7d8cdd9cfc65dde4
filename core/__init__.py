"""Transfer learning that proves itself: graft, fine-tune, verify and ship vision models.

``fit`` trains a model, ``load`` loads one again; ``TransferModel`` is what both return. The other
names are for those who write plugins, or who use the parts. Names are imported on first use, so that
``import visiongraft`` loads no torch.
"""

from __future__ import annotations

import ast
import random
from importlib import import_module
from pathlib import Path

from visiongraft.system.versions import VISIONGRAFT as __version__

# Where each public name lives, from the stub that editors and type checkers read.
_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_HOMES = {
    alias.name: str(node.module)
    for node in _STUB.body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}
__all__ = [*sorted(_HOMES), "__version__"]  # noqa: PLE0604


def __dir__() -> list[str]:
    return [*__all__, "__all__", "__doc__"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'visiongraft' has no attribute {name!r}")
    if _HOMES[name] == "visiongraft":
        return import_module(f"visiongraft.{name}")
    state = random.getstate()  # some libraries draw random numbers as they are imported
    try:
        return getattr(import_module(_HOMES[name]), name)
    finally:
        random.setstate(state)
