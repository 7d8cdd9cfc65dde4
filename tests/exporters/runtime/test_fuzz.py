"""Damaged files: each is either loaded or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.errors import ArtifactError, VisiongraftError
from visiongraft.exporters.runtime.predictor import Predictor


@pytest.fixture(scope="module")
def content(exported: Any) -> bytes:
    found: bytes = exported.path.read_bytes()
    return found


@pytest.fixture(scope="module")
def structure(exported: Any, content: bytes) -> list[int]:
    """Return the positions outside of the weights, where damage does most."""
    weights: set[int] = set()
    for tensor in exported.load().graph.initializer:
        if len(tensor.raw_data) > 64:
            start = content.index(tensor.raw_data)
            weights.update(range(start, start + len(tensor.raw_data)))
    return sorted(set(range(len(content))) - weights)


def load_or_refuse(path: Path, content: bytes) -> str:
    """Load a file and run it; anything but a ``VisiongraftError`` passes through."""
    path.write_bytes(content)
    try:
        predictor = Predictor(path)
    except ArtifactError as error:
        assert "\n" not in str(error)
        assert str(path) in str(error)
        return "refused"
    try:
        predictor.run(np.zeros((1, 8, 8, 3), np.uint8))
    except VisiongraftError as error:
        assert "\n" not in str(error)
    return "loaded"


@given(data=st.data())
def test_flipped_bits(
    content: bytes, structure: list[int], tmp_path: Path, data: st.DataObject
) -> None:
    damaged = bytearray(content)
    offsets = st.sampled_from(structure)
    for offset in data.draw(st.lists(offsets, min_size=1, max_size=4), label="offsets"):
        damaged[offset] ^= 1 << data.draw(st.integers(0, 7), label="bit")
    load_or_refuse(tmp_path / "damaged.onnx", bytes(damaged))


@given(fraction=st.floats(0, 1, exclude_max=True))
def test_truncated_files(content: bytes, tmp_path: Path, fraction: float) -> None:
    load_or_refuse(tmp_path / "damaged.onnx", content[: int(fraction * len(content))])


@given(data=st.data())
def test_parts_cut_out_or_doubled(
    content: bytes, structure: list[int], tmp_path: Path, data: st.DataObject
) -> None:
    offsets = st.sampled_from(structure)
    first, second = sorted([data.draw(offsets), data.draw(offsets)])
    length = data.draw(st.integers(1, 64))
    if data.draw(st.booleans()):
        damaged = content[:first] + content[first + length :]
    else:
        damaged = content[:second] + content[first : first + length] + content[second:]
    load_or_refuse(tmp_path / "damaged.onnx", damaged)


def test_the_whole_file_is_loaded_and_damage_is_noticed(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    assert load_or_refuse(path, content) == "loaded"
    assert load_or_refuse(path, content[:-1]) == "refused"
    assert load_or_refuse(path, content.replace(b"Conv", b"Cone")) == "refused"


def test_nothing_is_printed(
    content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    load_or_refuse(tmp_path / "damaged.onnx", content.replace(b"linear", b"lanear"))
    load_or_refuse(tmp_path / "damaged.onnx", content.replace(b"Conv", b"Cone"))
    assert capfd.readouterr() == ("", "")
