"""Zip archives that stand for more than they hold, or for two things at once."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from visiongraft.errors import ArtifactError
from visiongraft.exporters.pt2.records import check_archive, check_same
from visiongraft.exporters.pt2.runtime import Pt2Predictor

MOST = 2**20


def archive(
    *records: tuple[str, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b""
) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as made:
        for name, value in records:
            made.writestr(f"a/{name}", value)
        made.comment = comment
    return content.getvalue()


def checked(content: bytes, most: int = MOST) -> dict[str, int]:
    return check_archive(io.BytesIO(content), most)


def test_sizes_are_returned_by_name() -> None:
    assert checked(archive(("x", b"12"), ("y/z", b""))) == {"x": 2, "y/z": 0}


def test_a_compressed_record_is_refused_before_it_is_inflated() -> None:
    bomb = archive(("x", bytes(50 * MOST)), method=zipfile.ZIP_DEFLATED)
    assert len(bomb) < MOST
    start = time.perf_counter()
    with pytest.raises(ValueError, match="'x' is compressed"):
        checked(bomb)
    assert time.perf_counter() - start < 0.5


def both_at_the_first(content: bytes) -> bytes:
    """Let the second entry of the directory name the content of the first."""
    changed = bytearray(content)
    second = content.rindex(b"PK\x01\x02")
    changed[second + 42 : second + 46] = bytes(4)
    return bytes(changed)


FAULTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "two records at one place": (both_at_the_first, "overlaps another record"),
    "something in front": (lambda c: b"x" * 10 + c, "overlaps another record"),
    "something behind": (lambda c: c + b"x", "does not end with a zip archive's directory"),
    "another directory behind": (lambda c: c + archive(("x", b"2")), "overlaps another record"),
    "a changed byte": (lambda c: c.replace(b"first", b"other"), "the checksum of 'a/x' is wrong"),
    "no header": (lambda c: c.replace(b"PK\x03\x04", b"PK\x03\x05"), "a record has no header"),
}


@pytest.mark.parametrize(("fault", "cause"), FAULTS.values(), ids=FAULTS.keys())
def test_other_archives_are_refused(fault: Callable[[bytes], bytes], cause: str) -> None:
    content = archive(("x", b"first"), ("y", b"again"))
    checked(content)
    with pytest.raises(ValueError, match=cause):
        checked(fault(content))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_record_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="holds 'x' twice"):
        checked(archive(("x", b"1"), ("x", b"2")))


def test_a_comment_which_could_hold_another_directory_is_refused() -> None:
    with pytest.raises(ValueError, match="does not end with"):
        checked(archive(("x", b"1"), comment=archive(("y", b"2"))[:-1]))


def test_too_many_records_are_refused_before_they_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("visiongraft.exporters.pt2.records.MAX_RECORDS", 2)
    with pytest.raises(ValueError, match="holds 3 records; 2 are accepted"):
        checked(archive(*((f"{i}", b"") for i in range(3))))


def test_readers_have_to_agree() -> None:
    check_same({"x": 1}, {"x": 1})
    for other in ({}, {"x": 2}, {"x": 1, "y": 1}):
        with pytest.raises(ValueError, match="two readers find different records"):
            check_same({"x": 1}, other)


def test_a_file_that_was_packed_again_with_compression_is_one_line(
    program_file: Any, tmp_path: Path
) -> None:
    path = tmp_path / "packed.pt2"
    with (
        zipfile.ZipFile(program_file.path) as given,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made,
    ):
        for entry in given.infolist():
            made.writestr(entry.filename, given.read(entry))
    with pytest.raises(ArtifactError, match="is compressed") as caught:
        Pt2Predictor(path)
    assert "\n" not in str(caught.value)
