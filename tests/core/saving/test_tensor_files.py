"""Tensors come back as they were written, and a damaged file is refused in plain words."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from visiongraft.errors import ArtifactError
from visiongraft.saving.tensor_files import read_tensors, write_tensors


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
