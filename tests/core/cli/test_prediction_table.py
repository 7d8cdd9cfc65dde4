"""Tables of predictions."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from visiongraft.cli.prediction_table import is_prediction_file, to_csv, write_predictions
from visiongraft.errors import OptionError

VALUES = [{"image": "a,b.jpg", "label": 'say "cat"', "boxes": [[1, 2]], "score": float("nan")}]


class Several:
    def __init__(self, *rows: dict[str, Any]) -> None:
        self.found = rows

    def rows(self) -> list[dict[str, Any]]:
        return list(self.found)


def test_values_are_quoted_and_lists_are_json() -> None:
    (row,) = csv.DictReader(to_csv([None], VALUES).splitlines())
    assert row == {"image": "a,b.jpg", "label": 'say "cat"', "boxes": "[[1, 2]]", "score": ""}


def test_a_prediction_of_several_objects_has_a_row_for_each_and_an_empty_one_for_none() -> None:
    found = [Several({"label": "cat"}, {"label": "dog"}), Several()]
    text = to_csv(found, [{"image": "a.jpg"}, {"image": "b.jpg"}])
    assert text == "image,label\na.jpg,cat\na.jpg,dog\nb.jpg,\n"


def test_no_predictions_are_a_row_of_names() -> None:
    assert to_csv([], []) == "image\n"


def test_a_file_is_json_or_csv_by_its_suffix(tmp_path: Path) -> None:
    for name in ("found.json", "found.csv"):
        write_predictions(tmp_path / name, [None], [{"image": "a.jpg", "label": "cat"}])
    assert json.loads((tmp_path / "found.json").read_text()) == [{"image": "a.jpg", "label": "cat"}]
    assert (tmp_path / "found.csv").read_text() == "image,label\na.jpg,cat\n"


def test_a_folder_may_have_any_name_and_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "drawn.csv").mkdir()
    assert not is_prediction_file(tmp_path / "drawn.csv")
    assert not is_prediction_file(tmp_path / "v1.2")
    assert is_prediction_file(tmp_path / "found.CSV")
    with pytest.raises(
        OptionError, match=r"found.xlsx: pass a .csv, .parquet or .json file, or a folder"
    ):
        is_prediction_file(tmp_path / "found.xlsx")
