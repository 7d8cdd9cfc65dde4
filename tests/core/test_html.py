"""What notebooks show of results is escaped and short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visiongraft.certificate import Certificate, Comparison
from visiongraft.lookup.backbones import load_backbone
from visiongraft.mistakes.report import Mistakes, RatedLabel
from visiongraft.model import TransferModel
from visiongraft.multi_task.prediction import MultiPrediction
from visiongraft.network import Network
from visiongraft.pages.page_path import ReportPage
from visiongraft.plugins.classification.prediction import Classified, MultiClassified
from visiongraft.plugins.classification.task import Classification
from visiongraft.plugins.detection.prediction import Detected, DetectedObject
from visiongraft.plugins.face_embedding.gallery.gallery import Identification
from visiongraft.plugins.face_embedding.gallery.verification import Verification
from visiongraft.plugins.segmentation.prediction import Segmented, class_colors
from visiongraft.plugins.translation.prediction import Translated
from visiongraft.plugins.whole_images.embedded import Embedded

ODD = "<img src=x>\x1b[31m"
COMPARISON = Comparison("real", 2, 4, ((8, 8),), 1e-6, 0, ODD)


@pytest.mark.parametrize(
    "shown",
    [
        Classified(ODD, 0.7, {ODD: 0.7, "b": 0.3}),
        MultiClassified((ODD,), {ODD: 0.7, "b": 0.3}),
        Detected((DetectedObject(ODD, 0.9, (0.0, 1.0, 2.0, 3.0)),)),
        Certificate(ODD, "onnx", (COMPARISON,), 1e-4, "accuracy", 0.5, 0.5, {}, (ODD,)),
        Identification(ODD, 0.7, 0.5, ((ODD, 0.7), ("b", 0.2))),
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


def test_a_mask_is_painted_in_the_colors_of_its_legend() -> None:
    mask = np.array([[0, 1], [1, 1]], np.uint8)
    shown = Segmented(2, 2, ODD, {"sky": 0.25, ODD: 0.75, "none": 0.0}, mask, None)
    html = shown._repr_html_()
    assert html.startswith('<figure><img src="data:image/jpeg;base64,')
    assert "image-rendering: pixelated" in html and "<img src=x" not in html
    legend = html.partition("<table>")[2]
    assert legend.index("&lt;img src=x&gt;") < legend.index("sky")  # the larger one first
    assert f"#{bytes(class_colors(3)[1]).hex()}" in html and "<td>none</td>" not in html
    np.testing.assert_array_equal(shown.painted()[0, 0], class_colors(3)[0])


def test_masks_of_several_labels_are_painted_over_each_other() -> None:
    layers = np.array([[[1, 1]], [[0, 1]]], np.uint8)
    shown = Segmented(1, 2, "a", {"a": 1.0, "b": 0.5}, layers, None)
    np.testing.assert_array_equal(shown.painted()[0], class_colors(2))


def test_a_made_image_is_shown() -> None:
    html = Translated(8, 12, np.zeros((8, 12, 3), np.uint8))._repr_html_()
    assert "data:image/jpeg" in html and "12 x 8 pixels" in html


def test_an_embedding_and_the_comparison_of_two_faces_are_short() -> None:
    html = Embedded(128, (0.25,) * 128)._repr_html_()
    assert "embedding of 128 values" in html and html.count("<td>") == 6
    assert "different identities" in Verification(False, 0.1, 0.5)._repr_html_()


def test_each_head_is_shown_as_its_task_shows_it() -> None:
    known, plain = Classified("a", 0.7, {"a": 0.7}), {"brightness": ODD}
    html = MultiPrediction({ODD: known, "other": plain}, {})._repr_html_()
    assert known._repr_html_() in html and "brightness &lt;img" in html
    assert "<b>&lt;img src=x&gt;" in html and "<img" not in html


def test_a_model_says_what_it_is() -> None:
    task = Classification(class_names=(ODD, "b"), multi_label=False)
    network = Network(load_backbone("simple_cnn", weights=None, size=32), task)
    html = TransferModel(
        network, {"metrics": {"accuracy": 0.91}}, run_folder=Path(ODD)
    )._repr_html_()
    for found in ("classification", "simple_cnn", "32 x 32", "0.91", "parameters", "unknown"):
        assert found in html
    assert "<img" not in html and html.count("&lt;img src=x&gt;") == 2


def test_the_page_of_a_report_is_shown_in_a_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    html = ReportPage(Path("my <run>", "report.html"))._repr_html_()
    assert '<iframe src="my%20%3Crun%3E/report.html"' in html and "my &lt;run&gt;" in html
    outside = ReportPage(tmp_path.parent / "report.html")
    assert "<iframe" not in outside._repr_html_() and "file://" in outside._repr_html_()
    assert outside.name == "report.html" and isinstance(outside, Path)
