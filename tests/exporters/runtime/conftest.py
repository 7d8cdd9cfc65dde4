"""Distributions for tests of what installed plugins do with an exported file."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a distribution that provides typed predictions for the task of the file."""

    def install(code: str, draw: str = "", name: str = "shades-plugin") -> None:
        folder = tmp_path / f"site of {name}"
        module = name.replace("-", "_")
        info = folder / f"{module}-1.dist-info"
        info.mkdir(parents=True)
        (folder / f"{module}_functions.py").write_text(code + draw)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        drawings = f"[visiongraft.drawings]\nshades = {module}_functions:draw\n" if draw else ""
        (info / "entry_points.txt").write_text(
            f"[visiongraft.predictions]\nshades = {module}_functions:typed\n{drawings}"
        )
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, f"{module}_functions", raising=False)
        importlib.invalidate_caches()

    return install
