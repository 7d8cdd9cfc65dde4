"""Planted faults in annotated boxes are found by what a detector says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import visiongraft as vg
from visiongraft.cli import main
from visiongraft.errors import OptionError
from visiongraft.plugins.detection.example import write_coco
from visiongraft.plugins.detection.labels import BoxJudge
from visiongraft.plugins.detection.objects import Objects
from visiongraft.plugins.detection.task import Detection

NAMES = ("blue", "green", "red")
FAULTS = {"dropped": 3, "swapped": 7, "moved": 11}  # and their images; each has two objects


def objects(index: int) -> Objects:
    """Two objects at places that differ between images."""
    left = 5.0 + index
    boxes = ((left, 10.0, left + 20, 30.0), (left + 40, 40.0, left + 70, 70.0))
    return Objects(boxes, (index % 3, (index + 1) % 3), (100, 140), (False, False), (400.0, 900.0))


def with_fault(index: int, right: Objects) -> Objects:
    if index == FAULTS["dropped"]:
        first = right.boxes[:1], right.labels[:1], right.size, (False,), right.areas[:1]
        return Objects(*first)
    if index == FAULTS["swapped"]:
        return replace(right, labels=((right.labels[0] + 1) % 3, right.labels[1]))
    if index == FAULTS["moved"]:
        x1, y1, x2, y2 = right.boxes[1]
        return replace(right, boxes=(right.boxes[0], (x1 + 25, y1 + 20, x2 + 25, y2 + 20)))
    return right


def detected(task: Detection, given: Objects) -> dict[str, Any]:
    """What a good detector finds: the boxes, a little beside them."""
    examples = task.examples()
    assert examples is not None and examples.ideal is not None
    found = dict(examples.ideal(task.collate([given])))
    found["boxes"] = found["boxes"] + 0.5
    found["scores"] = np.where(found["scores"] > 0, 0.97, 0.0)
    return found


def test_images_with_faults_come_first_with_what_is_wrong() -> None:
    task = Detection(class_names=NAMES)
    judge = task.label_judge()
    for i in range(16):
        right = objects(i)
        judge.update(detected(task, right), task.collate([with_fault(i, right)]))
    found = judge.compute()
    assert set(np.argsort(found.quality)[:3].tolist()) == set(FAULTS.values())
    assert np.flatnonzero(found.wrong).tolist() == sorted(FAULTS.values())
    assert "may be without a box" in found.remarks[FAULTS["dropped"]]
    assert found.remarks[FAULTS["swapped"]].endswith("may be of another class")
    assert found.remarks[FAULTS["dropped"]].startswith(
        f"{NAMES[(FAULTS['dropped'] + 1) % 3]} at 48, 4"
    )


@pytest.mark.parametrize("highest", [0.97, 0.6, 0.3])
def test_faults_are_found_however_high_the_scores_of_a_detector_are(highest: float) -> None:
    task = Detection(class_names=NAMES)
    judge = task.label_judge()
    for i in range(16):
        found = detected(task, objects(i))
        found["scores"] = np.where(found["scores"] > 0, highest * (1 - i / 50), 0.0)
        given = with_fault(i, objects(i))
        judge.update(found, task.collate([given]))
    found = judge.compute()
    assert np.flatnonzero(found.wrong).tolist() == sorted(FAULTS.values())


def test_detections_of_nothing_with_low_scores_do_not_blame_labels() -> None:
    task = Detection(class_names=NAMES)
    judge = task.label_judge()
    for i in range(16):
        found = detected(
            task, replace(objects(i), boxes=(*objects(i).boxes[:1], (90.0, 50.0, 110.0, 70.0)))
        )
        found["scores"] = np.where(found["scores"] > 0, 0.6, 0.0)
        found["scores"][:, 1] = 0.2  # of a box where nothing is
        judge.update(
            found,
            task.collate(
                [
                    Objects(
                        objects(i).boxes[:1], objects(i).labels[:1], (100, 140), (False,), (400.0,)
                    )
                ]
            ),
        )
    assert not judge.compute().wrong.any()


def test_what_is_detected_within_a_crowd_region_is_not_missing() -> None:
    task = Detection(class_names=NAMES)
    judge = task.label_judge()
    for i in range(8):
        right = objects(i)
        given = replace(right, crowd=(False, True)) if i == 3 else right
        judge.update(detected(task, right), task.collate([given]))
    found = judge.compute()
    assert not found.wrong.any() and found.remarks[3] == ""


def test_images_without_objects_are_right() -> None:
    task = Detection(class_names=NAMES)
    judge = task.label_judge()
    nothing = Objects((), (), (100, 140), (), ())
    for i in range(6):
        given = nothing if i % 2 else objects(i)
        judge.update(detected(task, given), task.collate([given]))
    found = judge.compute()
    assert not found.wrong.any() and found.quality[1::2] == pytest.approx(1)


def test_data_without_a_trained_model_are_refused_with_what_to_do(tmp_path: Path) -> None:
    write_coco(tmp_path, 6, 0, ())
    with pytest.raises(OptionError, match="train one with fit and out=RUN"):
        vg.find_mistakes(
            tmp_path / "boxes.json", task="detection", backbone="simple_cnn", weights=None
        )


@pytest.mark.exhaustive
def test_the_validation_images_of_a_run_are_looked_at_with_its_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_coco(tmp_path, 30, 0, ())
    run, page = tmp_path / "run", tmp_path / "page.html"
    vg.fit(
        tmp_path / "boxes.json", task="detection", backbone="simple_cnn", weights=None, size=64, epochs=1,
        validation=0.4, out=run, callbacks=(), device="cpu",
    )  # fmt: skip
    assert main(["find-mistakes", str(run), "--html", str(page), "--json"]) == 0
    rated = json.loads(capsys.readouterr().out)["labels"]
    assert len({each["image"] for each in rated}) == len(rated) == 12
    assert {each["split"] for each in rated} == {"validation"}
    assert "Likely mistakes in labels" in page.read_text(encoding="utf-8")


def judge_of(objects: int, matches: list[tuple[float, int, int]]) -> BoxJudge:
    judge = BoxJudge(Detection(), NAMES)
    judge._labels, judge._matches = [{"labels": list(range(objects))}], matches
    return judge


def test_the_order_of_detections_of_equal_scores_does_not_matter() -> None:
    sure, right, wrong = [(0.99, 0, 0)] * 3, [(0.5, 0, 0)] * 10, [(0.5, 0, -1)] * 90
    for matches in (sure + right + wrong, sure + wrong + right):
        assert judge_of(13, matches)._sure() == 0.99


def test_a_detector_that_is_never_right_blames_no_labels() -> None:
    assert judge_of(13, [(1.0, 0, -1), (0.2, 0, -1)])._sure() > 1
    task = Detection(class_names=NAMES)
    judge = BoxJudge(task, NAMES)
    for index, score in enumerate((0.9, 0.05, 0.04, 0.03)):
        right = objects(index)
        found = detected(task, right)
        found["boxes"] = found["boxes"] * 0 + np.array([0, 60, 9, 99])
        found["scores"] = np.where(found["scores"] > 0, score, 0.0)
        judge.update(found, task.collate([right]))
    assert not judge.compute().wrong.any()
