"""Files are written whole or not at all, and a damaged one is refused in plain words."""

from __future__ import annotations

import os

import pytest

from visiongraft.errors import ArtifactError, VisiongraftError
from visiongraft.saving.files import (
    numbered,
    read_json,
    write_bytes,
    write_json,
    write_prediction_files,
)


def test_a_failed_write_leaves_the_old_content_and_no_remains(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(VisiongraftError, match=r"a\.bin cannot be written: No space left"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(VisiongraftError, match="cannot be written"):
        write_bytes(tmp_path / "file" / "a.bin", b"")


def test_json_keeps_letters_readable_and_damage_is_named(tmp_path):
    write_json(tmp_path / "a.json", {"label": "Öl"})
    assert "Öl" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"label": "Öl"}
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ArtifactError, match="not valid JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_json(tmp_path / "b.json")


def test_files_of_a_prediction_are_named_after_its_image(tmp_path):
    class Mask:
        def files(self) -> dict[str, bytes]:
            return {"mask.png": b"mask", "more.txt": b"more"}

    name = numbered(3, "folder/a.b.jpg")
    write_prediction_files(tmp_path, name, Mask())
    write_prediction_files(tmp_path, numbered(4, "image 4"), {"files": "of a plain dict"})
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == {"00003-a.b.mask.png": b"mask", "00003-a.b.more.txt": b"more"}
