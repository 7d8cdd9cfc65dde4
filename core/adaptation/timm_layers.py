"""Layers of timm, looked up without importing timm, which takes seconds."""

from __future__ import annotations

import sys
from typing import Any


def timm_layer(path: str) -> tuple[Any, ...]:
    """Return a layer class of timm, if anything imported it.

    Args:
        path: Its module inside ``timm.layers`` and its name, such as ``"norm_act.BatchNormAct2d"``.

    Returns:
        The class alone; nothing if its module was not imported, so that no layer can be of it.
    """
    module, _, name = path.rpartition(".")
    found = sys.modules.get(f"timm.layers.{module}")
    return () if found is None else (getattr(found, name),)
