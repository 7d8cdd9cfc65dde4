"""The notebooks of the documentation run, and what is kept of them was made by them."""

from __future__ import annotations

import os
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "tutorials"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 200_000  # bytes


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_four_tutorials() -> None:
    assert {path.stem for path in NOTEBOOKS} >= {
        "advise-before-training",
        "classify-images",
        "detect-and-serve",
        "write-a-plugin",
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_was_run_from_the_first_to_the_last_cell(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert [o for cell in cells for o in cell.outputs if o.output_type == "error"] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_names_no_machine(path: Path) -> None:
    assert path.stat().st_size < LARGEST
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"/(?:tmp|home|root|Users)/\w+", text) == []
    assert "\\u001b" not in text, "progress bars and colors do not belong into a notebook"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_in_the_navigation(path: Path) -> None:
    assert f"tutorials/{path.name}" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    script = runpy.run_path(str(FOLDER / "run.py"))
    done = script["run"](path, tmp_path)
    outputs = [output for cell in code_cells(done) for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error"] == []
    kept = [len(cell.outputs) > 0 for cell in code_cells(read(path))]
    assert [len(cell.outputs) > 0 for cell in code_cells(done)] == kept
    assert os.listdir(tmp_path), "it makes its own data"


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_notebook_with_a_fault_is_caught(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    nbformat.write(notebook, tmp_path / "faulty.ipynb")
    script = runpy.run_path(str(FOLDER / "run.py"))
    with pytest.raises(Exception, match="ZeroDivisionError"):
        script["run"](tmp_path / "faulty.ipynb", tmp_path)
