"""Names of images in tables and lists find their files in every spelling that tools write."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from visiongraft.data.listing import FileIndex, list_images
from visiongraft.data.names import find_listed

COMPOSED = unicodedata.normalize("NFC", "grün")
DECOMPOSED = unicodedata.normalize("NFD", "grün")


@pytest.mark.parametrize(
    ("on_disk", "written"),
    [
        ("sub/a b.png", "sub/a b.png"),
        ("sub/a b.png", "sub\\a b.png"),
        ("sub/a b.png", "sub/a%20b.png"),
        ("sub/a b.png", "sub%5Ca%20b.png".replace("%5C", "\\")),
        (f"sub/{COMPOSED}.png", f"sub/{DECOMPOSED}.png"),
        (f"sub/{DECOMPOSED}.png", f"sub/{COMPOSED}.png"),
        (f"sub/{DECOMPOSED}.png", "sub\\gr%C3%BCn.png"),
    ],
)
def test_a_file_is_found_in_other_spellings_of_its_name(
    tmp_path: Path, on_disk: str, written: str
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / on_disk).touch()
    assert find_listed(tmp_path, written) == tmp_path / on_disk
    index = FileIndex(tmp_path, list_images(tmp_path))
    assert index.find(written.removesuffix(".png")) == on_disk.removesuffix(".png")


def test_the_spelling_that_is_written_comes_first(tmp_path: Path) -> None:
    for name in ("a%20b.png", "a b.png", "c\\d.png"):
        (tmp_path / name).touch()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "d.png").touch()
    for name in ("a%20b.png", "c\\d.png"):
        assert find_listed(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize("name", ["", "a\0b.png", "x" * 5000, "\udce9.png", "%00.png", "sub"])
def test_a_name_that_is_no_file_is_not_found(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    assert find_listed(tmp_path, name) is None
