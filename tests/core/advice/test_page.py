"""The page of advice: complete, alone, and with everything from data escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from visiongraft.advice.costs import ScheduleCost
from visiongraft.advice.curves import LearningCurve, NeededLabels
from visiongraft.advice.evidence import HEAD, LAST, Trained, conclude
from visiongraft.advice.findings import Finding
from visiongraft.advice.page import Drawing, check_page
from visiongraft.advice.ranking import RankedBackbone, Score
from visiongraft.advice.report import Advice
from visiongraft.errors import OptionError

EVIL = "<script>alert('x')</script>\"&"
CURVE = LearningCurve(
    (16, 32, 64, 128),
    (0.6, 0.7, 0.8, 0.85),
    256,
    0.88,
    0.8,
    0.95,
    NeededLabels(None, 300, 200, None),
)


def advice(name: str, **changes: object) -> Advice:
    trained = [
        Trained(HEAD, "linear_probe", 3, np.arange(50) < 40),
        Trained(LAST, name, 3, np.arange(50) < 45),
    ]
    values = {
        "task": name,
        "images": 128,
        "available": 128,
        "classes": 2,
        "ranking": (RankedBackbone(name, 10, 5, 0.1, {name: Score(0.9, 0.8, 1.0)}),),
        "left_out": {name: name},
        "curve": CURVE,
        "evidence": conclude(trained, {name: name}),
        "costs": (ScheduleCost(name, 3, 10.0),),
        "findings": (Finding(name, name),),
        "warnings": (name,),
        "seconds": 1.0,
        "within": 2.0,
        "statements": (name,),
        **changes,
    }
    return Advice(**values)  # type: ignore[arg-type]


class Tags(HTMLParser):
    """Collects tags, and checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in ("meta", "polyline", "line", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()


def test_names_from_data_are_escaped_wherever_they_occur() -> None:
    page = advice(EVIL).html()
    assert "<script" not in page and page.count("&lt;script&gt;") >= 10
    tags = Tags()
    tags.feed(page)
    assert tags.open == [] and "svg" in tags.seen


def test_the_page_needs_nothing_else() -> None:
    assert not re.search(r"(src|href)=|url\(|@import|https?://", advice("plain").html())


def test_a_task_without_classes_has_a_page_too() -> None:
    page = advice("boxes", classes=None, ranking=(), curve=None, evidence=None).html()
    assert "<svg" not in page and "<table" not in page and "boxes" in page


def test_more_accuracy_is_drawn_higher_and_more_images_further_right() -> None:
    drawing = Drawing.of(CURVE)
    places = [(x, y) for x, y, *_ in (*drawing.points, drawing.expected)]
    assert places == sorted(places, key=lambda place: (place[0], -place[1]))
    assert drawing.high < drawing.expected[1] < drawing.low


@pytest.mark.parametrize("name", ["advice.pdf", "advice"])
def test_another_suffix_is_refused_before_anything_is_computed(name: str) -> None:
    with pytest.raises(OptionError, match=r"is not a path of a file with the suffix \.html"):
        check_page(Path(name))
