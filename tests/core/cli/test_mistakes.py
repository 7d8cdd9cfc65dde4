"""The command ``find-mistakes`` prints doubtful labels, and writes a table and a page."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from visiongraft.cli import main
from visiongraft.plugins.classification.task import Classification

OPTIONS = ["--task", "classification", "--backbone", "simple_cnn", "--weights", "none"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    examples = Classification().examples()
    assert examples is not None
    return str(examples.make_dataset(tmp_path_factory.mktemp("mistakes") / "data", 24, 0))


def test_a_table_and_a_page_are_written(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, page = tmp_path / "mistakes.csv", tmp_path / "mistakes.html"
    written = ["--csv", str(table), "--html", str(page)]
    assert main(["find-mistakes", data, *OPTIONS, "--size", "16", *written]) == 0
    assert "labels are likely wrong" in capsys.readouterr().out
    assert len(list(csv.DictReader(table.open(encoding="utf-8")))) > 20
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_json_has_all_labels(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["find-mistakes", data, *OPTIONS, "--size", "16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["labels"]) == found["images"]


def test_a_table_needs_the_suffix_of_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["find-mistakes", "missing", "--csv", "mistakes.txt"]) == 2
    assert "suffix .csv" in capsys.readouterr().err


def test_the_table_of_labels_is_not_written_over_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "labels.csv"
    data.write_text("path,label\n")
    assert main(["find-mistakes", str(data), "--csv", str(data)]) == 2
    assert "would overwrite an input" in capsys.readouterr().err
    assert data.read_text() == "path,label\n"
