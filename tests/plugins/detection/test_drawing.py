"""Drawn detections stay readable with a hundred boxes, and the objects can be written as images."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visiongraft.errors import OptionError
from visiongraft.plugins.detection import drawing
from visiongraft.plugins.detection.drawing import class_color, draw_boxes
from visiongraft.plugins.detection.prediction import Detected, DetectedObject
from visiongraft.saving.files import write_crops
from visiongraft.task_contract.narrowing import check_narrowing

NAMES = ("cat", "dog")


def crowd(count: int, seed: int = 0) -> Detected:
    """Return boxes all over an image of 640x480 pixels, as crowded as in a busy street."""
    corners = np.random.default_rng(seed).integers(0, 420, (count, 2)).tolist()
    return Detected(
        tuple(
            DetectedObject(NAMES[i % 2], 0.95 - i / 1000, (x, y, x + 60.0, y + 50.0))
            for i, (x, y) in enumerate(corners)
        )
    )


def test_names_do_not_cover_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[list[drawing.Rectangle]] = []
    original = drawing._name

    def name(*arguments: object) -> None:
        original(*arguments)  # type: ignore[arg-type]
        taken.append(arguments[-1])  # type: ignore[arg-type]

    monkeypatch.setattr(drawing, "_name", name)
    draw_boxes(Image.new("RGB", (640, 480)), crowd(drawing.NAMED))
    places = taken[-1]
    assert len(places) > drawing.NAMED // 2
    for i, one in enumerate(places):
        assert 0 <= one[0] and 0 <= one[1] and one[2] <= 640 and one[3] <= 480
        assert not any(drawing._overlap(one, other) for other in places[i + 1 :])


def test_a_hundred_boxes_have_colors_and_a_legend_in_place_of_names() -> None:
    image = Image.new("RGB", (640, 480), "gray")
    drawn = draw_boxes(image, crowd(100))
    assert drawn.width == 640 and 480 < drawn.height < 560
    legend = {tuple(c) for c in np.asarray(drawn)[480:].reshape(-1, 3).tolist()}
    assert {class_color(name) for name in NAMES} <= legend
    untouched = (np.asarray(drawn)[:480] == 128).all(axis=2).mean()
    assert untouched > 0.8  # filled names would hide the image


def test_objects_are_written_by_class_within_the_image(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 30), "red")
    found = Detected(
        (
            DetectedObject("dog", 0.9, (-5.0, 2.4, 10.2, 12.0)),
            DetectedObject("../cat", 0.8, (30.0, 20.0, 99.0, 99.0)),
            DetectedObject("dog", 0.7, (50.0, 20.0, 60.0, 30.0)),  # beside the image
        )
    )
    write_crops(tmp_path, "00000-a", image, found)
    written = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.jpg"))
    assert written == ["crops/cat/00000-a-1.jpg", "crops/dog/00000-a-0.jpg"]
    assert Image.open(tmp_path / written[1]).size == (11, 10)


def test_only_objects_that_the_line_names_are_written() -> None:
    box = (0.0, 0.0, 9.0, 9.0)
    found = Detected((DetectedObject("dog", 0.9, box), DetectedObject("cat", 0.06, box)))
    assert [label for label, _ in found.crops()] == ["dog"]
    assert [label for label, _ in found.narrowed(0.05, None).crops()] == ["dog", "cat"]


def test_predictions_without_boxes_have_nothing_to_crop(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no parts to crop"):
        write_crops(tmp_path, "a", Image.new("RGB", (4, 4)), object())


def test_thresholds_may_differ_by_class() -> None:
    found = Detected(
        tuple(DetectedObject(name, 0.4, (0.0, 0.0, 9.0, 9.0)) for name in ("dog", "cat", "cow"))
    )
    kept = found.narrowed({"dog": 0.3, "*": 0.5}, None)
    assert [each.label for each in kept.objects] == ["dog"]
    kept = found.narrowed({"dog": 0.5}, None)
    assert [each.label for each in kept.objects] == ["cat", "cow"]


def test_thresholds_of_unknown_classes_are_refused() -> None:
    check_narrowing({"dog": 0.3, "*": 0.5}, None, NAMES)
    with pytest.raises(
        OptionError, match=r"'dgo', which the model does not have; did you mean 'dog'"
    ):
        check_narrowing({"dgo": 0.3}, None, NAMES)
    with pytest.raises(OptionError, match="of class 'dog' is not within 0 and 1"):
        check_narrowing({"dog": math.nan}, None, NAMES)
