from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from visiongraft import exported
from visiongraft.errors import ArtifactError
from visiongraft.exported import GROUP, open_exported


class Opened:
    def __init__(self, path: Path, provider: str | None) -> None:
        self.given = path, provider


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("toy", f"{__name__}:Opened", GROUP)]
    monkeypatch.setattr(EntryPoint, "load", lambda self: Opened)
    monkeypatch.setattr(exported, "entry_points", lambda group: points)


@pytest.mark.parametrize("name", ["m.toy", "m.TOY"])
def test_a_file_is_opened_by_its_suffix(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    opened = open_exported(path, "cuda")
    assert isinstance(opened, Opened)
    assert opened.given == (path, "cuda")


def test_another_suffix_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "m.zip").touch()
    with pytest.raises(ArtifactError, match=r"m\.zip is not an exported model \(\.toy\)"):
        open_exported(tmp_path / "m.zip")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        open_exported(tmp_path / "m.toy")
    with pytest.raises(ArtifactError, match="is a folder"):
        open_exported(tmp_path)
