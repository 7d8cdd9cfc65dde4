"""What exported files of several heads are compared by, and what they predict without PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from visiongraft.comparison import Disagreement
from visiongraft.multi_task.export import combined_support
from visiongraft.multi_task.prediction import MultiPrediction, draw_all, predictions
from visiongraft.multi_task.task import MultiTask
from visiongraft.task import ExportSupport

RESULTS = {
    "kind.label": np.array([0, 1]),
    "kind.scores": np.array([0.5, 1.0]),
    "place.place": np.array([0.25, 0.75]),
}


def test_each_head_is_compared_by_its_own_task(Color: Any, Spot: Any) -> None:
    class Rounded(Spot):  # type: ignore[misc]
        name = "rounded"

        def export_support(self) -> ExportSupport:
            return ExportSupport(compare=lambda a, b: Disagreement(0.0, 7))

    support = combined_support({"kind": Color(), "place": Rounded()})
    assert support.compare(RESULTS, RESULTS) == Disagreement(0.0, 7)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("kind.label", [0, 2], Disagreement(0.0, 1)),
        ("kind.scores", [0.5, 0.5], Disagreement(0.5, 0)),
        ("place.place", [0.25, 0.0], Disagreement(1.0, 0)),
    ],
)
def test_a_fault_of_any_head_is_found(task: Any, name: str, value: Any, expected: Any) -> None:
    faulty = {**RESULTS, name: np.array(value)}
    assert task.export_support().compare(RESULTS, faulty) == expected
    missing = {n: v for n, v in RESULTS.items() if n != name}
    assert task.export_support().compare(RESULTS, missing).difference == float("inf")


def test_positions_are_rescaled_by_the_task_that_has_some(Color: Any, Spot: Any) -> None:
    class Pixels(Spot):  # type: ignore[misc]
        name = "pixels"

        def export_support(self) -> ExportSupport:
            return ExportSupport(rescale=lambda d, a, b: {"place": d["place"] * b[1] / a[1]})

    support = combined_support({"kind": Color(), "place": Pixels()})
    assert support.rescale is not None
    found = support.rescale(RESULTS, (4, 4), (8, 8))
    assert found["place.place"].tolist() == [0.5, 1.5]
    assert found["kind.scores"] is RESULTS["kind.scores"]


def test_a_head_without_an_installed_function_predicts_arrays(task: MultiTask) -> None:
    first, second = predictions(RESULTS, task.metadata())
    assert first.kind == {"label": 0, "scores": 0.5}
    assert second.tasks == {"kind": "color", "place": "spot"}


def test_drawings_of_other_sizes_are_placed_below_each_other() -> None:
    image = Image.new("RGB", (4, 4))
    prediction = MultiPrediction({"a": 1, "b": 2, "c": 3}, {})

    def caption(image: Any, prediction: int) -> Any:
        return image.crop((0, 0, 4, 4 + prediction))

    def red(image: Any, prediction: int) -> Any:
        return Image.new("RGB", image.size, "red")

    drawn = draw_all(image, prediction, {"a": caption, "b": caption, "c": red})
    assert drawn.size == (4, 5 + 6)
    assert drawn.getpixel((0, 0)) == drawn.getpixel((0, 5)) == (255, 0, 0)
    assert draw_all(image, prediction, {"c": red}).size == (4, 4)
