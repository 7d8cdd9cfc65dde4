"""What notebooks show of results is escaped and short."""

from __future__ import annotations

from typing import Any

import pytest

from visiongraft.certificate import Certificate, Comparison
from visiongraft.mistakes.report import Mistakes, RatedLabel
from visiongraft.plugins.classification.prediction import Classified, MultiClassified
from visiongraft.plugins.detection.prediction import Detected, DetectedObject

ODD = "<img src=x>\x1b[31m"
COMPARISON = Comparison("real", 2, 4, ((8, 8),), 1e-6, 0, ODD)


@pytest.mark.parametrize(
    "shown",
    [
        Classified(ODD, 0.7, {ODD: 0.7, "b": 0.3}),
        MultiClassified((ODD,), {ODD: 0.7, "b": 0.3}),
        Detected((DetectedObject(ODD, 0.9, (0.0, 1.0, 2.0, 3.0)),)),
        Certificate(ODD, "onnx", (COMPARISON,), 1e-4, "accuracy", 0.5, 0.5, {}, (ODD,)),
        Mistakes("b", (RatedLabel(ODD, "training", 0, ODD, "b", 0.1, True),), (), (ODD,), {}),
    ],
    ids=lambda shown: type(shown).__name__,
)
def test_results_are_tables_without_anything_from_data_unescaped(shown: Any) -> None:
    html = shown._repr_html_()
    assert html.startswith("<table>") and "&lt;img src=x&gt;" in html
    assert "<img" not in html and "\x1b" not in html


def test_only_the_most_probable_classes_are_shown() -> None:
    probabilities = {str(i): (i + 1) / 5050 for i in range(100)}
    html = Classified("99", 100 / 5050, probabilities)._repr_html_()
    assert html.count("<tr>") == 6 and "<td>99</td>" in html
