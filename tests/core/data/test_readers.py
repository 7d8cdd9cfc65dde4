"""A plugin's reader is found by its claim or its name, and does not break other readers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from visiongraft.data.readers import DataReader, DataSplits
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, PluginError
from visiongraft.hookspecs import hookimpl
from visiongraft.lookup.reading import named_reader, read_data
from visiongraft.registry.manager import PluginManager, using


class Lines(DataReader):
    """Reads text files with an image and a label on each line."""

    name = "lines"
    targets = "labels"

    def claims(self, data: Any) -> bool:
        return str(data).endswith(".lines")

    def read(self, data: Any) -> DataSplits:
        rows = [line.split() for line in Path(data).read_text().splitlines()]
        samples = FileSamples([Path(file) for file, _ in rows], [label for _, label in rows])
        return DataSplits({"train": samples}, warnings=("read by lines",))


class Broken(Lines):
    name = "broken"

    def claims(self, data: Any) -> bool:
        raise KeyError("claims")


class Boxes(Lines):
    name = "boxes"
    targets = "boxes"


class Gives(Lines):
    """Claims everything and returns what it was constructed with."""

    name = "gives"

    def __init__(self, found: Any) -> None:
        self.found = found

    def claims(self, data: Any) -> bool:
        return True

    def read(self, data: Any) -> Any:
        return self.found


def manager_with(*readers: DataReader) -> PluginManager:
    manager = PluginManager(discover=False)
    for number, reader in enumerate(readers):
        plugin = SimpleNamespace(
            register_readers=hookimpl(lambda reader=reader: [reader], specname="register_readers")
        )
        assert manager.register(plugin, f"plugin{number}").failures == []
    return manager


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "data.lines").write_text("a.png cat\nb.png dog\n")
    with using(manager_with(Lines())):
        yield tmp_path / "data.lines"


def targets_of(found: DataSplits | None) -> list[Any]:
    assert found is not None
    samples = found.splits["train"]
    return [samples.target(i) for i in range(len(samples))]


def test_data_that_a_reader_claims_are_read_by_it(lines: Path) -> None:
    assert targets_of(read_data(lines, "labels")) == ["cat", "dog"]
    assert targets_of(read_data(str(lines), "labels")) == ["cat", "dog"]


@pytest.mark.usefixtures("lines")
@pytest.mark.parametrize("data", ["photos", Path("photos.zip"), [1, 2], None])
def test_what_nobody_claims_is_left_to_the_task(data: Any) -> None:
    assert read_data(data, "labels") is None


def test_a_name_in_front_selects_a_reader_that_would_not_claim_it(lines: Path) -> None:
    other = lines.rename(lines.with_suffix(".txt"))
    assert read_data(other, "labels") is None
    assert targets_of(read_data(f"lines:{other}", "labels")) == ["cat", "dog"]
    assert targets_of(read_data(f"plugin0:lines:{other}", "labels")) == ["cat", "dog"]


def test_a_path_that_exists_is_never_taken_for_a_readers_name(lines: Path) -> None:
    odd = lines.with_name("lines:data")
    odd.write_text("")
    assert named_reader(str(odd)) == (None, str(odd))


@pytest.mark.parametrize("data", ["C:/photos", "nobody:x", "", ":", "x" * 5000 + ":y", "a\0:b"])
@pytest.mark.usefixtures("lines")
def test_other_text_with_a_colon_is_left_as_it_is(data: str) -> None:
    assert named_reader(data) == (None, data)


def test_a_task_gets_only_its_kind_of_targets(lines: Path) -> None:
    with using(manager_with(Lines(), Boxes())):
        assert targets_of(read_data(lines, "labels")) == ["cat", "dog"]
        assert read_data(lines, "masks") is None
        with pytest.raises(
            DataError, match="reader 'boxes' returns boxes, but the task takes labels"
        ):
            read_data(f"boxes:{lines}", "labels")


def test_two_readers_that_claim_the_same_data_are_refused_with_how_to_choose(lines: Path) -> None:
    with using(manager_with(Lines(), Gives(None))):
        with pytest.raises(DataError, match=f"choose one: gives:{lines} or lines:{lines}"):
            read_data(lines, "labels")
        assert targets_of(read_data(f"lines:{lines}", "labels")) == ["cat", "dog"]


def test_two_plugins_with_the_same_reader_name_are_an_error(lines: Path) -> None:
    with (
        using(manager_with(Lines(), Lines())),
        pytest.raises(PluginError, match="reader 'lines' is provided by plugin plugin0 and"),
    ):
        read_data(f"lines:{lines}", "labels")


def test_a_reader_that_raises_in_claims_does_not_stop_the_others(
    lines: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with using(manager_with(Broken(), Lines())):
        assert targets_of(read_data(lines, "labels")) == ["cat", "dog"]
    assert "reader 'broken' failed to check whether" in caplog.text


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "reader 'gives' returned NoneType, not DataSplits"),
        (
            DataSplits({"training": FileSamples([], [])}),
            "as split 'training'; splits are Samples named",
        ),
        (DataSplits({"train": [1]}), "returned list as split 'train'"),  # type: ignore[dict-item]
        (DataSplits({}), "reader 'gives' found no samples"),
        (DataSplits({"train": FileSamples([], [])}), "reader 'gives' found no samples"),
    ],
)
def test_a_reader_that_breaks_its_contract_is_named(found: Any, words: str) -> None:
    with using(manager_with(Gives(found))), pytest.raises(DataError, match=words):
        read_data("x", "labels")


def test_a_reader_must_declare_its_kind_of_targets() -> None:
    class Silent(Lines):
        name = "silent"
        targets = None  # type: ignore[assignment]

    manager = PluginManager(discover=False)
    plugin = SimpleNamespace(
        register_readers=hookimpl(lambda: [Silent()], specname="register_readers")
    )
    assert "which has no targets" in manager.register(plugin, "mine").problems[0]
