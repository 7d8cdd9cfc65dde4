"""COCO's metrics, equal to those of pycocotools on written files."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from visiongraft.errors import DataError
from visiongraft.plugins.detection.curves import plot_precision_recall
from visiongraft.plugins.detection.metrics import STATS, DetectionMetrics
from visiongraft.plugins.detection.objects import Objects
from visiongraft.plugins.detection.task import Detection

LABELS = ("ant", "bee", "cat", "dog")
TASK = Detection(class_names=LABELS, detections=20)


def image(random: np.random.Generator) -> tuple[Objects, dict[str, Any]]:
    """Return random objects of all sizes, some of them crowds, and detections near some of them."""
    count = int(random.integers(0, 6))
    corners = random.uniform(0, 300, (count, 2))
    sides = random.uniform(5, 180, (count, 2))
    boxes = np.concatenate([corners, corners + sides], 1)
    labels = random.integers(0, 3, count)  # never a dog
    crowd = random.random(count) < 0.15
    target = Objects(
        tuple(map(tuple, boxes.tolist())),
        tuple(labels.tolist()),
        (500, 500),
        tuple(crowd.tolist()),
        tuple((sides.prod(1) * 0.8).tolist()),
    )
    near = boxes + random.normal(0, 6, boxes.shape)
    detected = np.concatenate([near, near[: count // 2] + 8, random.uniform(0, 400, (2, 4))])
    detected[:, 2:] = np.maximum(detected[:, 2:], detected[:, :2] + 1)
    n = len(detected)
    order = np.argsort(-random.random(n))
    arrays: dict[str, Any] = {
        "boxes": np.zeros((20, 4), np.float32),
        "scores": np.zeros(20, np.float32),
        "labels": np.full(20, -1, np.int64),
        "count": n,
    }
    arrays["boxes"][:n] = detected[order]
    arrays["scores"][:n] = -np.sort(-random.uniform(0.05, 1, n))
    arrays["labels"][:n] = random.integers(0, 4, n)
    arrays["labels"][:count] = np.where(random.random(count) < 0.8, labels, 3)
    return target, arrays


def batch(seed: int, images: int) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    some = [image(random) for _ in range(images)]
    decoded = {name: np.stack([a[name] for _, a in some]) for name in some[0][1]}
    return decoded, TASK.collate([target for target, _ in some])


def measured(seed: int = 0, images: int = 40) -> DetectionMetrics:
    metrics = TASK.build_metrics()
    metrics.update(*batch(seed, images))
    return metrics


def test_the_numbers_equal_pycocotools_on_written_files(tmp_path: Path) -> None:
    metrics = measured()
    for name, content in zip(("annotations", "results"), metrics.files(), strict=True):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "annotations.json"))
        evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "results.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    found = metrics.compute()
    for name, value in zip(STATS, evaluation.stats, strict=True):
        assert found[name] == pytest.approx(value, abs=1e-8)
    assert 0 < found["mAP"] < found["AP50"] < 1 and found["AP_small"] != found["AP_large"]
    for i, label in enumerate(LABELS[:3]):
        evaluation.params.catIds = [i + 1]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        assert found["per_class"][label]["AP"] == pytest.approx(evaluation.stats[0], abs=1e-8)
        assert found["per_class"][label]["AP50"] == pytest.approx(evaluation.stats[1], abs=1e-8)


def test_classes_without_objects_are_not_measured() -> None:
    found = measured().compute()
    assert found["per_class"]["dog"] == {"AP": None, "AP50": None, "boxes": 0}
    counted = sum(entry["boxes"] for entry in found["per_class"].values())
    _, targets = batch(0, 40)
    assert counted == sum(int((~t["crowd"]).sum()) for t in targets)


def test_the_files_contain_each_image_once_in_order() -> None:
    decoded, targets = batch(0, 3)
    metrics = TASK.build_metrics()
    metrics.update({n: v[:1] for n, v in decoded.items()}, targets[:1])
    metrics.update({n: v[1:] for n, v in decoded.items()}, targets[1:])
    annotations, results = metrics.files()
    assert [image["id"] for image in annotations["images"]] == [1, 2, 3]
    assert [row["id"] for row in annotations["annotations"]] == list(
        range(1, 1 + sum(len(t["labels"]) for t in targets))
    )
    assert [sum(row["image_id"] == i + 1 for row in results) for i in range(3)] == decoded[
        "count"
    ].tolist()
    x, y, w, h = results[0]["bbox"]
    assert [x, y, x + w, y + h] == pytest.approx(decoded["boxes"][0, 0].tolist(), rel=1e-6)


def test_a_detection_on_a_crowd_is_not_a_false_positive() -> None:
    one = Objects(((0, 0, 50, 50), (100, 0, 300, 200)), (0, 0), (500, 500), (False, True), (1, 1))
    ideal = TASK._ideal(TASK.collate([one]))
    crowded = {n: v.copy() for n, v in ideal.items()}
    crowded["boxes"][0, 1], crowded["scores"][0, 1] = (110, 10, 200, 100), 0.999
    crowded["labels"][0, 1], crowded["count"][0] = 0, 2
    for decoded, best in ((ideal, 1.0), (crowded, 1.0)):
        metrics = TASK.build_metrics()
        metrics.update(decoded, TASK.collate([one]))
        assert metrics.compute()["mAP"] == pytest.approx(best)
    crowded["scores"][0, :2] = (0.9, 0.999)  # but elsewhere it is one
    crowded["boxes"][0, 1] = (0, 300, 50, 350)
    metrics = TASK.build_metrics()
    metrics.update(crowded, TASK.collate([one]))
    assert metrics.compute()["mAP"] < 0.6


def test_no_object_and_no_detection_score_zero_without_error() -> None:
    nothing = Objects((), (), (10, 10), (), ())
    metrics = TASK.build_metrics()
    metrics.update(TASK._ideal(TASK.collate([nothing])), TASK.collate([nothing]))
    found = metrics.compute()
    assert found["mAP"] == 0 and found["AP50"] is None
    some = TASK.collate([Objects(((0, 0, 5, 5),), (0,), (10, 10), (False,), (25,))])
    metrics.update(TASK._ideal(TASK.collate([nothing])), some)
    assert metrics.compute()["AP50"] == 0
    json.dumps(metrics.compute(), allow_nan=False)


def test_without_images_an_error_is_raised() -> None:
    with pytest.raises(DataError, match="there are no images to measure"):
        TASK.build_metrics().compute()


def test_computing_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    measured().compute()
    assert capsys.readouterr().out == ""


def test_the_curve_is_drawn_and_falls(tmp_path: Path) -> None:
    found = measured().compute()
    curve = found["precision_at_recall"]
    assert len(curve) == 101 and curve == sorted(curve, reverse=True)
    assert np.mean(curve) == pytest.approx(found["AP50"], abs=1e-3)
    plot_precision_recall(found, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as drawn:
        assert drawn.size == (600, 480)
        assert len(drawn.convert("RGB").getcolors(10**6) or []) > 20
    with pytest.raises(DataError, match="no precision_at_recall"):
        plot_precision_recall({"accuracy": 1.0}, tmp_path / "other.png")


def test_ideal_results_without_crowds_score_one() -> None:
    _, targets = batch(3, 10)
    metrics = TASK.build_metrics()
    metrics.update(TASK._ideal(targets), targets)
    assert metrics.compute()["mAP"] == pytest.approx(1)
    assert torch.stack([t["crowd"].any() for t in targets]).any()
