"""Groups of samples by an attribute, a table or a function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visiongraft.data.groups import group_names
from visiongraft.data.images import DatasetSamples
from visiongraft.data.samples import Samples, WrappedSamples
from visiongraft.errors import OptionError


class Named(WrappedSamples):
    def __init__(self, base: Samples, folder: Path) -> None:
        super().__init__(base)
        self.folder = folder

    def name(self, index: int) -> str:
        return str(self.folder / f"{index}.png")


@pytest.fixture
def samples(tmp_path: Path) -> Any:
    images = [(np.zeros((4, 4, 3), np.uint8), 0) for _ in range(3)]
    return Named(DatasetSamples.of(images), tmp_path)


def test_a_table_names_groups_by_paths_relative_to_it(samples: Any, tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("path,group\n0.png,north\n2.png,south\n")
    assert group_names(samples, table) == ["north", "", "south"]


def test_a_function_names_groups(samples: Any) -> None:
    assert group_names(samples, lambda name: Path(name).stem) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,team\n0.png,a\n", "lacks the column 'group'"),
        ("path,group\n0.png,a\n0.png,b\n", "row 3: '0.png' is in two groups"),
        ("path,group\nother.png,a\n", "has no row for"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    samples: Any, tmp_path: Path, text: str, message: str
) -> None:
    table = tmp_path / "groups.csv"
    table.write_text(text)
    with pytest.raises(OptionError, match=message):
        group_names(samples, table)
