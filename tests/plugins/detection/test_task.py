"""Options, predictions, drawing, and the whole conformance kit."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import visiongraft
from tests.short_trials import SHORT, ShortTrial
from visiongraft.data.images import DatasetSamples
from visiongraft.errors import ArtifactError, DataError, OptionError
from visiongraft.plugins.detection.compare import rescale_boxes
from visiongraft.plugins.detection.drawing import class_color, draw_boxes
from visiongraft.plugins.detection.prediction import Detected, DetectedObject, predictions
from visiongraft.plugins.detection.task import Detection
from visiongraft.registry.manager import plugins
from visiongraft.schedules import lp_ft, with_defaults
from visiongraft.task import create_task
from visiongraft.testing import TASK_CHECKS, Check, TaskTrial
from visiongraft.testing.tasks import FORWARD_CHECKS
from visiongraft.testing.tasks.data import DATA_CHECKS
from visiongraft.testing.tasks.forward import DECODE_CHECKS
from visiongraft.testing.tasks.loss import LOSS_CHECKS

QUICK = {check.name for check in (*DATA_CHECKS, *FORWARD_CHECKS)}
OF_HEADS = (*DECODE_CHECKS, *LOSS_CHECKS)  # the metrics are the same for every head
OTHERS = ("ssd", "retinanet", "fcos", "faster_rcnn")
# The further cost of these checks is mostly the same for every head.
TRAINING = ("a_few_images_are_overfit", "the_exported_file_agrees", "replay_changes_nothing")
# The engine's part of these is checked with other tasks; resuming implies that equal runs are equal.
OF_THE_ENGINE = {
    "a_killed_run_resumes_exactly",
    "another_process_predicts_the_same",
    "equal_runs_are_equal",
    "frozen_stays_frozen",
    "replay_changes_nothing",
    "two_processes_train_alike",
    "workers_change_nothing",
}


LEARNED_BELOW = {"a_few_images_are_overfit"}
# models/test_decode.py exports what differs from other tasks every time.
EXPORTED = {"class_names_survive_saving_and_export", "the_exported_file_agrees"}


def slow(check: Check[Any]) -> Any:
    mark: Any = () if check.name in QUICK else pytest.mark.slow
    if check.name in OF_THE_ENGINE | LEARNED_BELOW | EXPORTED:
        mark = pytest.mark.exhaustive
    return pytest.param(check, id=check.name, marks=mark)


def of_a_head(check: Check[Any]) -> Any:
    mark: Any = () if check in OF_HEADS else pytest.mark.exhaustive
    return pytest.param(check, id=check.name, marks=mark)


@pytest.fixture(scope="module")
def short_trial() -> TaskTrial:
    return ShortTrial(Detection)


@pytest.fixture(scope="module")
def trial() -> TaskTrial:
    return TaskTrial(Detection)


@pytest.fixture(scope="module")
def trials() -> dict[str, TaskTrial]:
    return {head: TaskTrial(Detection(head=head, width=32)) for head in (*OTHERS, "faster_rcnn_v2")}  # type: ignore[arg-type]


@pytest.mark.parametrize(("head", "phases"), [("ssdlite", [3, 7]), ("retinanet", [10])])
def test_heads_with_deep_towers_do_not_begin_alone(head: str, phases: list[int]) -> None:
    options = create_task(Detection, {"head": head}).schedule_options
    schedule = with_defaults(lp_ft, options)
    assert [phase.epochs for phase in schedule.phases(("stem", "stage1"), 10)] == phases


@pytest.mark.parametrize("check", [slow(check) for check in TASK_CHECKS])
def test_the_task_passes_the_kit(
    short_trial: TaskTrial, trial: TaskTrial, check: Check[Any]
) -> None:
    check(short_trial if check.name in SHORT else trial)


def test_a_few_images_are_learned(tmp_path: Path) -> None:
    examples = Detection().examples()
    assert examples is not None
    data = examples.make_dataset(tmp_path, 24, 0)
    model = visiongraft.fit(
        data,
        task=Detection(augment="none"),
        backbone="simple_cnn",
        weights=None,
        schedule="full(learning_rate=3e-3, layer_decay=1.0)",
        epochs=14,
        size=32,
        batch_size=8,
        device="cpu",
        callbacks=(),
    )
    assert model.evaluate(data)["AP50"] > 0.4


@pytest.mark.parametrize(
    "head", [*OTHERS, pytest.param("faster_rcnn_v2", marks=pytest.mark.exhaustive)]
)
@pytest.mark.parametrize("check", [of_a_head(check) for check in FORWARD_CHECKS])
def test_every_head_passes_the_checks_without_training(
    trials: dict[str, TaskTrial], head: str, check: Check[Any]
) -> None:
    check(trials[head])


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "head", [*OTHERS, pytest.param("faster_rcnn_v2", marks=pytest.mark.exhaustive)]
)
@pytest.mark.parametrize("name", TRAINING)
def test_every_head_learns_and_exports(trials: dict[str, TaskTrial], head: str, name: str) -> None:
    (check,) = [check for check in TASK_CHECKS if check.name == name]
    check(trials[head])


def test_the_installed_plugin_provides_the_task() -> None:
    assert plugins().get("task", "detection") is Detection


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": "cat"}, "class_names='cat' is not a list of names"),
        ({"class_names": ["cat", ""]}, "is not a list of names"),
        ({"class_names": ["cat", "cat"]}, "contains a name twice"),
        ({"head": "sdd"}, "head='sdd' is unknown; did you mean 'ssd'"),
        ({"head": None}, "head=None is unknown"),
        ({"augment": "lite"}, "augment='lite' is unknown; did you mean 'light'"),
        ({"width": 100}, "width=100 is not a multiple of 32"),
        ({"width": 0}, "width=0 is not a multiple of 32"),
        ({"width": 64.0}, "width=64.0 is not a multiple of 32"),
        ({"detections": 0}, "detections=0 is not an integer of at least 1"),
        ({"detections": True}, "detections=True is not an integer"),
        ({"score_threshold": 1}, r"score_threshold=1 is not in \[0, 1\)"),
        ({"score_threshold": float("nan")}, "score_threshold=nan"),
        ({"iou_threshold": 0}, r"iou_threshold=0 is not in \(0, 1\]"),
        ({"iou_threshold": "0.5"}, "iou_threshold='0.5' is not"),
        ({"flip": 1}, "flip=1 is not true or false"),
        ({"mosaic": 1.5}, r"mosaic=1.5 is not in \[0, 1\]"),
        ({"mosaic": 0.5, "augment": "none"}, "mosaic is an augmentation; leave out augment='none'"),
        ({"treshold": 1}, "has no option 'treshold'"),
    ],
    ids=str,
)
def test_an_invalid_option_is_rejected_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        create_task(Detection, options)
    assert "\n" not in str(caught.value)


def test_options_round_trip_and_the_iou_threshold_defaults_to_the_heads() -> None:
    task = create_task(Detection, {"class_names": ["a"], "head": "fcos", "width": 64})
    assert create_task(Detection, json.loads(json.dumps(task.options()))) == task
    assert task.limits.iou == 0.6 and Detection().limits.iou == 0.55
    assert Detection(iou_threshold=0.3).limits.iou == 0.3


def test_a_task_without_class_names_or_with_other_samples_raises() -> None:
    with pytest.raises(OptionError, match="no class names yet"):
        Detection().build_metrics()
    with pytest.raises(DataError, match="samples from read"):
        Detection().bind(DatasetSamples([(1, 2)], [3]))


def test_boxes_are_rescaled_with_their_image() -> None:
    found = {"boxes": np.array([[[10, 20, 30, 60]]], np.float32), "labels": np.array([[0]])}
    moved = rescale_boxes(found, (100, 50), (50, 200))
    assert moved["boxes"].tolist() == [[[40, 10, 120, 30]]]
    assert moved["boxes"].dtype == np.float32
    assert moved["labels"] is found["labels"]


FOUND = Detected(
    (
        DetectedObject("cat", 0.9, (20.0, 30.0, 120.0, 130.0)),
        DetectedObject("dog", 0.1, (150.0, 10.0, 190.0, 60.0)),
    )
)


def test_predictions_have_names_scores_and_boxes_in_order() -> None:
    arrays: dict[str, Any] = {
        "boxes": np.array([[[20.0, 30, 120, 130], [150, 10, 190, 60], [0, 0, 0, 0]]], np.float32),
        "scores": np.array([[0.9, 0.1, 0]]),
        "labels": np.array([[1, 0, -1]]),
        "count": np.array([2]),
    }
    assert predictions(arrays, {"class_names": ["dog", "cat"]}) == [FOUND]
    json.dumps(asdict(FOUND))


def test_a_summary_names_the_most_confident_objects_in_one_line() -> None:
    assert FOUND.summary() == "cat (0.90); 1 below 0.30"
    assert Detected(FOUND.objects * 50).summary() == "50 cat (0.90); 50 below 0.30"
    assert Detected(FOUND.objects[1:]).summary() == "nothing found; 1 below 0.30"
    assert Detected(()).summary() == "nothing found"


def test_a_threshold_of_the_user_decides_what_the_summary_names() -> None:
    assert FOUND.narrowed(0.01, None).summary().count("(") == len({o.label for o in FOUND.objects})
    assert "below" not in FOUND.narrowed({"cat": 0.01, "*": 0.0}, None).summary()
    assert FOUND.narrowed(None, 5).summary() == FOUND.summary()
    assert FOUND.narrowed(0.01, None) == FOUND


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": np.array([[2]])}, "class id 2 for 2 class names"),
        ({"labels": np.array([[-1]])}, "class id -1 for 2 class names"),
        ({"count": np.array([2])}, "counts .2. detections in 1 slots"),
        ({"boxes": np.zeros((1, 1, 3))}, "which do not match"),
    ],
)
def test_damaged_results_are_rejected(change: dict[str, Any], words: str) -> None:
    arrays = {
        "boxes": np.zeros((1, 1, 4)),
        "scores": np.full((1, 1), 0.5),
        "labels": np.zeros((1, 1), np.int64),
        "count": np.ones(1, np.int64),
    }
    with pytest.raises(ArtifactError, match=words):
        predictions({**arrays, **change}, {"class_names": ["dog", "cat"]})


def test_confident_boxes_are_drawn_in_their_color_and_others_are_not() -> None:
    image = Image.new("RGB", (200, 160), "black")
    drawn = draw_boxes(image, FOUND)
    assert drawn.size == image.size and image.getextrema() == ((0, 0),) * 3
    assert drawn.getpixel((70, 130)) == class_color("cat")  # lower edge
    assert drawn.getpixel((70, 80)) == (0, 0, 0)
    assert drawn.getpixel((170, 60)) == (0, 0, 0)  # of the dog, whose score is low
    assert draw_boxes(image, FOUND, least=0.0).getpixel((170, 60)) == class_color("dog")
    assert drawn.crop((20, 10, 120, 30)).getcolors() != [(2000, (0, 0, 0))]  # name and score


def test_small_and_gray_images_and_boxes_at_the_edge_are_drawn() -> None:
    edge = Detected((DetectedObject("a long name\nof two lines", 0.8, (0.0, 0.0, 20.0, 10.0)),))
    drawn = draw_boxes(Image.new("L", (20, 10)), edge)
    assert drawn.size == (160, 80) and drawn.mode == "RGB"
