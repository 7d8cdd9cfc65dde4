"""Distributions for tests of what installed plugins do with an exported file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def provide(install: Callable[..., Path]) -> Callable[..., None]:
    """Install a distribution that provides typed predictions for the task of the file."""

    def provide(code: str, draw: str = "", name: str = "shades-plugin") -> None:
        module = f"{name.replace('-', '_')}_prediction"
        drawings = f"[visiongraft.drawings]\nshades = {module}:draw\n" if draw else ""
        points = f"[visiongraft.predictions]\nshades = {module}:typed\n{drawings}"
        install(name, points, **{module: code + draw})

    return provide
