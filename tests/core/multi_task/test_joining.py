"""Images that the datasets of several heads contain are one sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from visiongraft.data.samples import FileSamples, Splits
from visiongraft.errors import DataError
from visiongraft.multi_task.joining import join_splits


def write(path: Path, color: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (color, 0, 0)).save(path)
    return path


def splits_of(train: list[Path], validation: list[Path]) -> Splits:
    return Splits(
        FileSamples(train, [p.name for p in train]),
        FileSamples(validation, [p.name for p in validation]),
    )


@pytest.fixture
def heads(Color: Any, Spot: Any) -> dict[str, Any]:
    return {"kind": Color(), "place": Spot()}


def test_equal_paths_and_equal_contents_are_one_image(tmp_path: Path, heads: Any) -> None:
    a, b, c = (write(tmp_path / f"{n}.png", n) for n in range(3))
    copy = write(tmp_path / "copies" / "1.png", 1)
    other = write(tmp_path / "other.png", 9)
    found = {"kind": splits_of([a, b], [c]), "place": splits_of([a, copy, other], [c])}
    joined = join_splits(found, heads, shared=False)
    assert [joined.train.target(i) for i in range(len(joined.train))] == [
        {"kind": "0.png", "place": "0.png"},
        {"kind": "1.png", "place": "1.png"},
        {"place": "other.png"},
    ]
    assert joined.validation.target(0) == {"kind": "2.png", "place": "2.png"}
    assert joined.warnings == ()


def test_no_validation_image_is_trained_on(tmp_path: Path, heads: Any) -> None:
    a, b, c, d = (write(tmp_path / f"{n}.png", n) for n in range(4))
    found = {"place": splits_of([a, b], [c, d]), "kind": splits_of([b, c], [d, a])}
    moved = join_splits(found, heads, shared=False)
    names = [{s.name(i) for i in range(len(s))} for s in (moved.train, moved.validation)]
    assert names == [{str(a), str(b)}, {str(c), str(d)}]
    assert moved.train.count("kind") == 2  # the target of `a` moved with the image
    assert moved.facts["kind: moved to another split"] == 2
    swapped = {"kind": found["kind"], "place": found["place"]}
    lost = join_splits(swapped, heads, shared=False)
    assert lost.train.count("place") == lost.validation.count("place") == 1
    assert "head 'place': 2 targets are not used" in lost.warnings[0]


def test_a_head_whose_targets_are_all_lost_is_refused(tmp_path: Path, heads: Any) -> None:
    a, b = (write(tmp_path / f"{n}.png", n) for n in range(2))
    with pytest.raises(DataError, match="head 'place' has no training images"):
        join_splits({"kind": splits_of([a], [b]), "place": splits_of([b], [a])}, heads, False)


def test_an_image_that_a_head_has_twice_is_two_samples(tmp_path: Path, heads: Any) -> None:
    a, b = (write(tmp_path / f"{n}.png", n) for n in range(2))
    found = {"kind": splits_of([a, a], [b]), "place": splits_of([a], [b])}
    joined = join_splits(found, heads, shared=False)
    assert [sorted(joined.train.target(i)) for i in range(2)] == [["kind", "place"], ["kind"]]
