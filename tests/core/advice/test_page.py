"""The page of advice: complete, alone, and with everything from data escaped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from visiongraft.advice.costs import ScheduleCost
from visiongraft.advice.curves import LearningCurve, NeededLabels
from visiongraft.advice.evidence import HEAD, LAST, Trained, conclude
from visiongraft.advice.findings import Finding
from visiongraft.advice.page import draw_learning_curve
from visiongraft.advice.ranking import RankedBackbone, Score
from visiongraft.advice.report import Advice
from visiongraft.errors import OptionError
from visiongraft.pages.writing import check_page

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
        "identities": None,
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


def test_names_from_data_are_escaped_wherever_they_occur() -> None:
    page = advice(EVIL).html()
    assert EVIL not in page and page.count("&lt;script&gt;") >= 10


def test_a_task_without_classes_has_a_page_too() -> None:
    page = advice("boxes", classes=None, ranking=(), curve=None, evidence=None).html()
    assert "<figure" not in page and "<table" not in page and "boxes" in page


def test_the_curve_goes_on_to_what_is_expected_with_its_interval() -> None:
    drawn = draw_learning_curve(CURVE)
    measured, expected, interval = (
        drawn.renderers[i].data_source.data for i in range(0, 6, 2)
    )  # lines and their points take turns
    assert (measured["x"], measured["y"]) == ([16, 32, 64, 128], [0.6, 0.7, 0.8, 0.85])
    assert (expected["x"][-1], expected["y"][-1]) == (256, 0.88)
    assert (interval["x"], interval["y"]) == ([256, 256], [0.8, 0.95])


@pytest.mark.parametrize("name", ["advice.pdf", "advice"])
def test_another_suffix_is_refused_before_anything_is_computed(name: str) -> None:
    with pytest.raises(OptionError, match=r"is not a path of a file with the suffix \.html"):
        check_page(Path(name))
