from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score

from visiongraft.errors import DataError
from visiongraft.plugins.segmentation.metrics import SegmentationMetrics, confusion_counts

CLASS_NAMES = ("sky", "road", "car", "tree")


def masks(seed: int, classes: int = 4, count: int = 3) -> tuple[np.ndarray, torch.Tensor]:
    random = np.random.default_rng(seed)
    true = random.integers(0, classes, (count, 9, 11)).astype(np.uint8)
    found = np.where(random.random(true.shape) < 0.6, true, random.integers(0, classes, true.shape))
    true[random.random(true.shape) < 0.1] = 255
    return found.astype(np.uint8), torch.tensor(true)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_results_are_those_of_sklearn(seed: int, classes: int) -> None:
    found, true = masks(seed, classes)
    metrics = SegmentationMetrics(CLASS_NAMES[:classes], 255, multi_label=False)
    metrics.update({"labels": found}, true)
    results = metrics.compute()
    counted = true.numpy() != 255
    t, p = true.numpy()[counted], found[counted]
    ours = [row["iou"] for row in results["per_class"].values()]
    expected = jaccard_score(t, p, average=None)
    assert ours == pytest.approx(expected)
    assert results["mean_iou"] == pytest.approx(expected.mean())
    dice = [row["dice"] for row in results["per_class"].values()]
    assert dice == pytest.approx(f1_score(t, p, average=None))
    assert results["mean_dice"] == pytest.approx(np.mean(dice))
    assert results["pixel_accuracy"] == pytest.approx((t == p).mean())
    assert results["confusion_matrix"] == confusion_matrix(t, p).tolist()
    json.dumps(results)


@pytest.mark.exhaustive  # torchmetrics takes seconds to import
@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_intersections_over_unions_are_those_of_torchmetrics(seed: int, classes: int) -> None:
    reference = pytest.importorskip("torchmetrics.functional.classification")
    found, true = masks(seed, classes)
    metrics = SegmentationMetrics(CLASS_NAMES[:classes], 255, multi_label=False)
    metrics.update({"labels": found}, true)
    results = metrics.compute()
    index = reference.multiclass_jaccard_index(
        torch.tensor(found).long(), true.long(), classes, average=None, ignore_index=255
    )
    ours = [row["iou"] for row in results["per_class"].values()]
    assert ours == pytest.approx(index.tolist(), abs=1e-6)
    assert results["mean_iou"] == pytest.approx(float(index.mean()), abs=1e-6)


def test_absent_classes_are_not_averaged() -> None:
    metrics = SegmentationMetrics(CLASS_NAMES, 255, multi_label=False)
    metrics.update({"labels": np.array([[[0, 1, 1]]])}, torch.tensor([[[0, 1, 0]]]))
    results = metrics.compute()
    assert results["per_class"]["car"] == {
        "iou": None,
        "dice": None,
        "recall": None,
        "precision": None,
        "pixels": 0,
    }
    assert results["mean_iou"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    # One that is predicted where it is not, is wrong.
    metrics.update({"labels": np.array([[[2]]])}, torch.tensor([[[0]]]))
    assert metrics.compute()["per_class"]["car"]["iou"] == 0


def test_results_do_not_depend_on_the_batches() -> None:
    found, true = masks(1)
    one, other = (SegmentationMetrics(CLASS_NAMES, 255, multi_label=False) for _ in range(2))
    one.update({"labels": found}, true)
    for i in range(len(found)):
        other.update({"labels": found[i : i + 1]}, [true[i]])
    assert one.compute() == other.compute()


def test_a_mean_over_images_is_another_value() -> None:
    """The planted fault: images of different content, whose own means differ from the dataset's."""
    found = [np.array([[[0, 0, 0, 1]]]), np.array([[[1, 1, 1, 1]]])]
    true = [torch.tensor([[[0, 0, 0, 0]]]), torch.tensor([[[1, 1, 1, 1]]])]
    whole = SegmentationMetrics(CLASS_NAMES, 255, multi_label=False)
    each = []
    for f, t in zip(found, true, strict=True):
        whole.update({"labels": f}, t)
        single = SegmentationMetrics(CLASS_NAMES, 255, multi_label=False)
        single.update({"labels": f}, t)
        each.append(single.compute()["mean_iou"])
    assert whole.compute()["mean_iou"] == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert np.mean(each) != pytest.approx(whole.compute()["mean_iou"], abs=0.05)


def test_multi_label_masks_are_counted_per_class() -> None:
    found = np.array([[[[1, 1, 0, 0]], [[0, 0, 0, 0]]]])
    true = torch.tensor([[[[1, 0, 0, 255]], [[0, 0, 0, 1]]]])
    metrics = SegmentationMetrics(("leaf", "dirt"), 255, multi_label=True)
    metrics.update({"labels": found}, true)
    results = metrics.compute()
    assert results["per_class"]["leaf"]["iou"] == 1 / 2
    assert results["per_class"]["dirt"]["iou"] == 0
    assert results["mean_iou"] == 1 / 4
    assert results["pixel_accuracy"] == 5 / 7
    assert "confusion_matrix" not in results


def test_ignored_pixels_alone_score_0() -> None:
    metrics = SegmentationMetrics(CLASS_NAMES, 255, multi_label=False)
    metrics.update({"labels": np.array([[[0]]])}, torch.tensor([[[255]]]))
    results = metrics.compute()
    assert results["mean_iou"] == 0 and results["pixel_accuracy"] is None


def test_missing_or_mismatched_masks_raise() -> None:
    metrics = SegmentationMetrics(CLASS_NAMES, 255, multi_label=False)
    with pytest.raises(DataError, match="no images to evaluate"):
        metrics.compute()
    with pytest.raises(DataError, match="a mask has 2x3 pixels, but its image has 3x2"):
        metrics.update({"labels": np.zeros((1, 3, 2), np.uint8)}, torch.zeros(1, 2, 3))


def test_the_confusion_matrix_of_many_classes_is_omitted() -> None:
    metrics = SegmentationMetrics([str(i) for i in range(51)], 255, multi_label=False)
    metrics.update({"labels": np.array([[[50]]])}, torch.tensor([[[50]]]))
    assert "confusion_matrix" not in metrics.compute()
    assert confusion_counts(np.array([3, 3]), np.array([1, 3]), 4, 255)[3].tolist() == [0, 1, 0, 1]
