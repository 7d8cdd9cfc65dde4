"""The quick start, typed line by line: from no images to a report, a table, an explained image and a file."""

from __future__ import annotations

import csv
import re
import runpy
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from visiongraft.cli import main

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "quick-start.md"
TEXT = PAGE.read_text(encoding="utf-8")
SMALL = ["--backbone", "simple_cnn", "--weights", "none", "--size", "32", "--epochs", "1"]
NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]\d+)?")


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """What draws the pictures of the page, which finds the commands on it."""
    pytest.importorskip("playwright.sync_api")
    images = ROOT / "docs" / "images"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(images))
        return runpy.run_path(str(images / "quick_start.py"))


@pytest.fixture(scope="module")
def walk(
    script: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[list[str]], Path]]:
    """Type the page in a new folder, with further options of ``fit``."""

    def walk(options: list[str]) -> Path:
        folder = tmp_path_factory.mktemp("quick-start")
        patch.chdir(folder)
        patch.setenv("COLUMNS", "100")  # as wide as the page
        Path("tiles.py").write_text(script["script_of"](TEXT), encoding="utf-8")
        runpy.run_path("tiles.py")
        for words in script["commands_of"](TEXT):
            assert main([*words, *(options if words[0] == "fit" else ())]) == 0, words
        return folder

    with pytest.MonkeyPatch.context() as patch:
        yield walk


@pytest.fixture(scope="module")
def folder(walk: Callable[[list[str]], Path]) -> Path:
    """What a user has at the end, with a small network instead of the pretrained one."""
    return walk(SMALL)


class Section(HTMLParser):
    """Counts the images of one section of a report."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.images, self._inside = name, 0, False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self._inside = dict(attrs).get("id") == self.name
        self.images += self._inside and tag == "img"


def images_in(report: Path, section: str) -> int:
    parser = Section(section)
    parser.feed(report.read_text(encoding="utf-8"))
    return parser.images


@pytest.mark.slow
def test_the_report_shows_the_five_worst_mistakes(folder: Path) -> None:
    assert images_in(folder / "runs" / "probe" / "report.html", "mistakes") >= 5


@pytest.mark.slow
def test_the_comparison_is_a_page_of_both_runs(folder: Path) -> None:
    page = (folder / "comparison.html").read_text(encoding="utf-8")
    assert "runs/probe" in page
    assert "runs/tuned" in page


@pytest.mark.slow
def test_the_table_has_a_row_for_each_image(folder: Path) -> None:
    with open(folder / "predictions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    images = sorted(path.as_posix() for path in (folder / "photos" / "cat").iterdir())
    assert [row["image"].removeprefix(f"{folder}/") for row in rows] == [
        image.removeprefix(f"{folder}/") for image in images
    ]
    assert {row["label"] for row in rows} <= {"astronaut", "cat", "coffee"}


@pytest.mark.slow
def test_the_explained_image_has_colors_of_a_map(folder: Path) -> None:
    (path,) = (folder / "explanations").iterdir()
    with Image.open(path) as image:
        assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 100


@pytest.mark.slow
def test_the_exported_file_is_there_with_its_certificate(folder: Path) -> None:
    assert (folder / "photos.onnx").stat().st_size > 1000
    assert (folder / "photos.onnx.certificate.json").is_file()


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_commands_print_what_the_page_shows(
    walk: Callable[[list[str]], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    walk([])
    out, err = capfd.readouterr()
    printed = NUMBER.sub("#", out + err)
    blocks = re.findall(r"^```text\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks[1:] for line in block.splitlines() if line != "..."]
    assert len(lines) > 20
    # Machines round differently, so that figures are not compared.
    missing = [line for line in lines if NUMBER.sub("#", line).strip() not in printed]
    assert missing == []
