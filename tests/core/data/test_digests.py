"""Digests of targets depend on their content alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from visiongraft.data.digests import digest_of


@dataclass
class Box:
    corners: tuple[int, ...]
    name: str


class Plain:
    def __init__(self, value: Any) -> None:
        self.value = value


class Slotted:
    __slots__ = ()


DIFFERENT = [
    None,
    0,
    1,
    True,
    1.0,
    float("nan"),
    "1",
    b"1",
    "\ud800",
    (),
    (1,),
    (1, 2),
    ((1,), 2),
    {"a": 1},
    {"a": 2},
    {1, 2},
    np.zeros(3),
    np.zeros(3, np.float32),
    np.zeros((3, 1)),
    np.array([0, 1, 0.0]),
    np.array([None, "a"], dtype=object),
    torch.zeros(3, dtype=torch.int32),
    torch.ones(3, dtype=torch.bfloat16),
    Image.new("L", (2, 2)),
    Image.new("L", (2, 2), 1),
    Image.new("P", (2, 2), 1),
    Box((1, 2), "a"),
    Box((1, 2), "b"),
    Plain(1),
    Plain(2),
    Slotted(),
]


def test_different_values_have_different_digests() -> None:
    assert len({digest_of(value) for value in DIFFERENT}) == len(DIFFERENT)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2), [1, 2]),
        (np.int64(3), 3),
        (np.float64(0.5), 0.5),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (torch.zeros(3), np.zeros(3, np.float32)),
        (torch.zeros(2, 3).t(), np.zeros((3, 2), np.float32)),
        (Plain([1]), Plain([1])),
        (Slotted(), Slotted()),
        (float("nan"), float("nan")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_equal_contents_have_equal_digests(one: Any, other: Any) -> None:
    assert digest_of(one) == digest_of(other)


def test_a_path_counts_as_the_content_of_its_file(tmp_path: Path) -> None:
    one, other = tmp_path / "a.png", tmp_path / "b.png"
    one.write_bytes(b"mask")
    other.write_bytes(b"mask")
    assert digest_of(one) == digest_of(other)
    other.write_bytes(b"mash")
    assert digest_of(one) != digest_of(other)


def test_a_value_that_contains_itself_has_a_digest() -> None:
    around: list[Any] = [1]
    around.append(around)
    assert digest_of(around) == digest_of(around)


def test_digests_are_equal_in_another_process() -> None:
    source = "{'b', 'a', 'c'}, {'x': {1, 2}}"
    code = f"from visiongraft.data.digests import digest_of; print(digest_of(({source})))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert found == digest_of(({"c", "b", "a"}, {"x": {2, 1}}))
