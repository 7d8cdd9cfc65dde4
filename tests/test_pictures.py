"""Pictures of the documentation: each thing to see is on the page that explains it, and what files show is drawn from them."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
IMAGES = DOCS / "images"
CARD = re.compile(r"^- \*\*\[(.+?)\]\((.+?)\)\*\*\n\n +!\[.+?\]\(images/(.+?)\)$", re.MULTILINE)
LARGEST = 260_000  # bytes
PICTURES = sorted(path for path in IMAGES.iterdir() if path.suffix in (".jpg", ".png", ".svg"))
PAGES = {path: path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md")}
CARDS = [card for name in ("index", "looking") for card in CARD.findall(PAGES[DOCS / f"{name}.md"])]


def section_of(text: str, anchor: str) -> str:
    """Return the part of a page from a heading to the next one of its level or above; all of it without an anchor."""
    if not anchor:
        return text
    lines, level, kept = text.splitlines(), 0, []
    for line in lines:
        heading = re.match(r"(#+) (.+)", line)
        if heading:
            slug = re.sub(r"[^\w\s-]", "", heading[2]).strip().lower().replace(" ", "-")
            if level and len(heading[1]) <= level:
                break
            level = level or (len(heading[1]) if slug == anchor else 0)
        if level:
            kept.append(line)
    return "\n".join(kept)


@pytest.mark.parametrize(("title", "link", "picture"), CARDS, ids=[card[0] for card in CARDS])
def test_what_a_card_shows_is_in_the_section_that_it_leads_to(
    title: str, link: str, picture: str
) -> None:
    assert (IMAGES / picture).is_file(), title
    page, _, anchor = link.partition("#")
    assert f"images/{picture}" in section_of(PAGES[DOCS / page], anchor)


def test_every_picture_is_on_a_page() -> None:
    shown = "".join(PAGES.values())
    assert [path.name for path in PICTURES if f"images/{path.name}" not in shown] == []


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_small(path: Path) -> None:
    assert path.stat().st_size < LARGEST


@pytest.mark.parametrize("path", [p for p in PICTURES if p.suffix == ".svg"], ids=lambda p: p.name)
def test_a_drawing_asks_no_host_for_anything_and_names_no_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"https?://|@import|@font-face|url\((?!#)", text) == []
    assert re.findall(r"/(?:tmp|home|root|work|Users)/\w+", text.replace("/work /", "")) == []


def test_files_of_the_project_are_drawn_as_they_are() -> None:
    script = runpy.run_path(str(IMAGES / "project_files.py"))
    for name, drawing in script["drawings"]().items():
        assert (IMAGES / name).read_text(encoding="utf-8") == drawing


def test_a_step_that_is_missing_in_a_drawing_is_caught() -> None:
    script = runpy.run_path(str(IMAGES / "project_files.py"))
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    shorter = dockerfile.replace("COPY exporters exporters\n", "")
    assert shorter != dockerfile
    assert script["stages_of"](shorter) != script["stages_of"](dockerfile)
