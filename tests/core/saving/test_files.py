"""Files are written whole or not at all, and a damaged one is refused in plain words."""

from __future__ import annotations

import os

import pytest
import safetensors.torch
import torch

from visiongraft.errors import ArtifactError, VisiongraftError
from visiongraft.saving.files import (
    numbered,
    read_json,
    read_tensors,
    write_bytes,
    write_json,
    write_prediction_files,
    write_tensors,
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


def test_tensors_and_values_come_back_exactly(tmp_path):
    shared = torch.arange(6.0)
    tensors = {
        "whole": shared,
        "part": shared[2:4],
        "turned": shared.view(2, 3).t(),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "count": torch.tensor(3),
    }
    values = {"position": {"epoch": 1, "lr": 0.1 + 0.2, "nothing": None}}
    write_tensors(tmp_path / "a.safetensors", tensors, values)
    got, metadata = read_tensors(tmp_path / "a.safetensors")
    assert metadata == values
    for name, tensor in tensors.items():
        assert torch.equal(got[name], tensor)
        assert got[name].dtype == tensor.dtype


@pytest.mark.parametrize("content", [b"", b"junk" * 10, b"\x80\x04junk", b"\xff" * 64])
def test_a_damaged_tensor_file_is_named(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"a\.safetensors is damaged"):
        read_tensors(tmp_path / "a.safetensors")


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


def test_equal_tensors_and_values_are_equal_bytes(tmp_path):
    values = {name: [name] for name in "abcdefgh"}
    for name in ("one", "other"):
        write_tensors(tmp_path / name, {"b": torch.ones(3), "a": torch.zeros(2)}, values)
        values = dict(reversed(values.items()))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert safetensors.torch.load_file(tmp_path / "one")["b"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.uint8])
def test_a_flipped_bit_in_a_tensor_is_noticed(tmp_path, dtype):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.ones(5, dtype=dtype), "none": torch.ones(0)}, {"format": 1})
    content = bytearray(path.read_bytes())
    content[-2] ^= 4
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"a\.safetensors is damaged: .* its checksum"):
        read_tensors(path)


def test_a_tensor_file_without_a_checksum_is_read(tmp_path):
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", {"format": "2"})
    tensors, metadata = read_tensors(tmp_path / "a.safetensors")
    assert tensors["a"].tolist() == [1, 1] and metadata == {"format": 2}
