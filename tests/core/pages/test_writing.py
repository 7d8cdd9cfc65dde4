"""Pages are complete, alone, and everything from data in them is escaped."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from visiongraft.pages.figures import draw_matrix, draw_points
from visiongraft.pages.parts import (
    Code,
    Figure,
    Gallery,
    GalleryImage,
    Lines,
    Section,
    Table,
    Text,
    data_uri,
)
from visiongraft.pages.writing import render_page

EVIL = "</script><script>alert('x')</script>\"&\x1b"
IMAGE = np.zeros((300, 100, 3), np.uint8)


class Tags(HTMLParser):
    """Collects tags with their attributes, and checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()


def tags_of(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    return tags


def evil_page() -> str:
    points = draw_points(np.eye(3)[:, :2], [EVIL] * 3, [EVIL] * 3, [data_uri(IMAGE)] * 3)
    matrix = draw_matrix(np.eye(2, dtype=int), [EVIL, "b"], [EVIL, "b"], EVIL, EVIL)
    parts = [
        Text(EVIL, strong=True),
        Lines([EVIL]),
        Code(EVIL),
        Table([EVIL], [[EVIL], [0.5]], EVIL),
        Table([EVIL], [[EVIL]], EVIL, folded=True),
        Figure(points, EVIL),
        Figure(matrix, EVIL),
        Gallery([GalleryImage(data_uri(IMAGE), [EVIL])]),
    ]
    return render_page(EVIL, [Section(f"s{i}", EVIL, parts) for i in range(1)], [EVIL])


def test_what_comes_from_data_is_text_wherever_it_occurs() -> None:
    page = evil_page()
    tags = tags_of(page)
    plain = tags_of(render_page("a", [Section("s", "s", [Figure(figure(), "c")])]))
    assert tags.seen.count("script") == plain.seen.count("script") == 4
    assert tags.open == []
    assert EVIL not in page and "\x1b" not in page
    assert page.count("&lt;script&gt;alert") >= 12


def figure() -> object:
    return draw_matrix(np.eye(2, dtype=int), ["a", "b"], ["a", "b"], "x", "y")


def test_figures_are_told_apart_by_their_places() -> None:
    page = evil_page()
    (items,) = re.findall(r'<script type="application/json" id="items">(.*?)</script>', page)
    targets = [item["target_id"] for item in json.loads(items)]
    assert targets == ["figure-0", "figure-1"]
    assert all(page.count(f'<div id="{target}">') == 1 for target in targets)


def test_a_page_refers_to_nothing_else() -> None:
    tags = tags_of(evil_page())
    found = [value for name, value in tags.attributes if name in ("src", "href") and value]
    assert found and all(value.startswith(("data:image/jpeg;base64,", "#")) for value in found)


def test_a_page_without_figures_has_no_plotting_library() -> None:
    assert len(render_page("a", [Section("s", "s", [Text("t")])])) < 10_000


def test_images_are_reduced_to_the_longest_side() -> None:
    assert len(data_uri(IMAGE, 16)) < len(data_uri(IMAGE, 200))


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_images_of_any_number_of_channels_are_shown(channels: int) -> None:
    assert data_uri(np.zeros((8, 8, channels), np.uint8)).startswith("data:image/jpeg")
