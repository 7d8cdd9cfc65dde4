from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def results_of_imports_stay_out_of_the_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VISIONGRAFT_CACHE", str(tmp_path / "cache"))
