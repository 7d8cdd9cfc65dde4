from __future__ import annotations

from pathlib import Path

import pytest

from visiongraft.registry import isolation


@pytest.fixture(autouse=True)
def imports_are_not_tried_in_a_child(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Spare a process per test, and keep the results of the few that need one out of the home."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if "test_isolation" not in request.node.nodeid:
        monkeypatch.setattr(isolation, "_import_in_child", lambda module: "unknown")
