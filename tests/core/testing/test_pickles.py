"""Pickles are found in every kind of file that a run writes, and plain data is not taken for one."""

from __future__ import annotations

import base64
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from visiongraft.testing.pickles import is_pickle, pickle_in

OBJECTS = ({"labels": ["a", "b"]}, [1.5, None], Path("x"))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: type(value).__name__)
def test_a_pickle_is_recognized_by_its_content(value: object, protocol: int) -> None:
    content = pickle.dumps(value, protocol)
    assert is_pickle(content)
    assert not is_pickle(content[:-1])
    assert not is_pickle(b"x" + content)


@pytest.mark.parametrize("content", [b"", b"\x80", b"\x80\x04noise", b"\x89PNG\r\n", b"{}", b"PKW"])
def test_other_bytes_are_none(content: bytes) -> None:
    assert not is_pickle(content)


@pytest.mark.parametrize("encode", [lambda b: base64.b64encode(b).decode(), bytes.hex])
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_one_written_as_text_is_found(tmp_path: Path, encode, suffix: str) -> None:
    path = tmp_path / f"config{suffix}"
    path.write_text(
        json.dumps({"task_options": ["plain", {"state": encode(pickle.dumps([1, 2]))}]})
    )
    assert pickle_in(path) == "a pickle written as text"
    path.write_text(json.dumps({"task_options": ["plain", {"gAAA": "abcd" * 9, "80": 0.5}]}))
    assert pickle_in(path) == ""


def test_one_within_a_tensor_is_found_and_pixels_are_none(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    hidden = torch.frombuffer(bytearray(pickle.dumps({"a": 1})), dtype=torch.uint8)
    save_file({"weight": torch.zeros(3), "head.state": hidden}, path)
    assert pickle_in(path) == "a pickle in tensor 'head.state'"
    save_file({"weight": torch.zeros(3), "pixels": torch.full((40,), 128, dtype=torch.uint8)}, path)
    assert pickle_in(path) == ""


def test_what_torch_saves_is_found_whatever_its_name(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "curves.png")
    assert pickle_in(tmp_path / "curves.png") == "a pickle as its content"
