from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from visiongraft.errors import ArtifactError, PluginError
from visiongraft.lookup.exported import open_exported

OPENER = """
class Opened:
    def __init__(self, path, provider):
        self.given = path, provider
"""


@pytest.fixture(autouse=True)
def installed(install: Callable[..., Path]) -> None:
    install("toys", "[visiongraft.predictors]\ntoy = toy_opener:Opened\n", toy_opener=OPENER)


@pytest.mark.parametrize("name", ["m.toy", "m.TOY"])
def test_a_file_is_opened_by_its_suffix(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    opened = open_exported(path, "cuda")
    assert type(opened).__name__ == "Opened"
    assert opened.given == (path, "cuda")  # type: ignore[attr-defined]


def test_another_suffix_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "m.zip").touch()
    with pytest.raises(
        ArtifactError, match=r"m\.zip is not an exported model \(\.onnx, \.pt2, \.toy\)"
    ):
        open_exported(tmp_path / "m.zip")


def test_a_suffix_that_two_distributions_open_is_opened_by_neither(
    tmp_path: Path, install: Callable[..., Path]
) -> None:
    install("other", "[visiongraft.predictors]\ntoy = other_opener:Opened\n", other_opener=OPENER)
    (tmp_path / "m.toy").touch()
    with pytest.raises(PluginError, match=r"predictor 'toy' is provided by other 1\.5 and toys 1"):
        open_exported(tmp_path / "m.toy")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        open_exported(tmp_path / "m.toy")
    with pytest.raises(ArtifactError, match="is a folder"):
        open_exported(tmp_path)
