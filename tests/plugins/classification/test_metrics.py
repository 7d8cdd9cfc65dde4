from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
)

from visiongraft.errors import DataError
from visiongraft.plugins.classification.metrics import (
    MAX_CONFUSION_CLASSES,
    ClassificationMetrics,
    MultiLabelMetrics,
    SingleLabelMetrics,
)

Case = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]

GENERATORS = st.integers(0, 2**32 - 1).map(np.random.default_rng)
IMAGES = st.integers(1, 40)


def names(count: int) -> list[str]:
    return [f"label {i}" for i in range(count)]


@st.composite
def single_label(draw: st.DrawFn) -> Case:
    """Draw probabilities (N, C), predicted ids (N,) and true ids (N,); rounded ones contain equal values."""
    generator, count, labels = draw(GENERATORS), draw(IMAGES), draw(st.integers(2, 8))
    logits = generator.normal(size=(count, labels)) * draw(st.sampled_from([0.3, 1.0, 8.0]))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    probabilities = probabilities.round(draw(st.sampled_from([1, 2, 9]))).astype(np.float32)
    targets = generator.integers(draw(st.integers(1, labels)), size=count)
    return probabilities, probabilities.argmax(axis=1), targets


@st.composite
def multi_label(draw: st.DrawFn) -> Case:
    """Probabilities, decisions and multi_hot, each (N, C)."""
    generator, count, labels = draw(GENERATORS), draw(IMAGES), draw(st.integers(1, 6))
    probabilities = generator.uniform(size=(count, labels)) ** draw(st.sampled_from([0.2, 1, 4]))
    probabilities = probabilities.round(draw(st.sampled_from([1, 9]))).astype(np.float32)
    fraction = generator.choice([0.0, 0.3, 1.0], size=labels)  # no image, some, or every one
    multi_hot = (generator.uniform(size=(count, labels)) < fraction).astype(np.int64)
    return probabilities, (probabilities >= 0.5).astype(np.int64), multi_hot


def measured(metrics: ClassificationMetrics, case: Case, cuts: Sequence[int] = ()) -> Any:
    """Measure a case, whole or in batches."""
    bounds = sorted({0, len(case[0]), *(c for c in cuts if c < len(case[0]))})
    for start, end in pairwise(bounds):
        probabilities, decisions, targets = (array[start:end] for array in case)
        # As collate gives them: ids, or multi_hot as floats.
        collated = torch.tensor(targets)
        collated = collated.float() if targets.ndim == 2 else collated
        metrics.update({"probabilities": probabilities, "labels": decisions}, collated)
    return metrics.compute()


def measure_single(case: Case, cuts: Sequence[int] = ()) -> Any:
    return measured(SingleLabelMetrics(names(case[0].shape[1])), case, cuts)


def measure_multi(case: Case, cuts: Sequence[int] = ()) -> Any:
    return measured(MultiLabelMetrics(names(case[0].shape[1])), case, cuts)


def same(ours: Any, reference: float) -> bool:
    """``None`` stands for the reference's NaN."""
    if ours is None or math.isnan(reference):
        return ours is None and math.isnan(reference)
    return bool(ours == pytest.approx(reference, abs=2e-6))


def per_class(results: Any, name: str) -> list[Any]:
    return [values[name] for values in results["per_class"].values()]


def mean_of_known(values: Any) -> float:
    known = [v for v in values if not math.isnan(v)]
    return float(np.mean(known)) if known else math.nan


def average_precisions(probabilities: Any, multi_hot: Any) -> list[float]:
    return [
        average_precision_score(own, column) if own.any() else math.nan
        for own, column in zip(multi_hot.T, probabilities.T, strict=True)
    ]


def calibration_error(probabilities: Any, targets: Any) -> float:
    """Sum over bins of the predicted probability: fraction x |accuracy - mean probability|."""
    confidence = probabilities.max(axis=1).clip(0, 1)
    right = probabilities.argmax(axis=1) == targets
    edges = np.linspace(0, 1, 15 + 1, dtype=np.float32)
    bins = np.digitize(confidence, edges)
    total = 0.0
    for each in np.unique(bins):
        inside = bins == each
        total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def numbers(value: Any) -> Iterator[Any]:
    """Collect all plain values of nested results."""
    for inner in value.values():
        if isinstance(inner, dict):
            yield from numbers(inner)
        else:
            yield inner


# ---- one label per image, against references ----


@given(single_label())
def test_accuracy_and_confusion_are_sklearns(case: Case) -> None:
    probabilities, decided, targets = case
    results = measure_single(case)
    assert same(results["accuracy"], accuracy_score(targets, decided))
    expected = confusion_matrix(targets, decided, labels=range(probabilities.shape[1]))
    assert results["confusion_matrix"] == expected.tolist()


@given(single_label())
def test_precision_recall_and_f1_are_sklearns(case: Case) -> None:
    probabilities, decided, targets = case
    results = measure_single(case)
    options: dict[str, Any] = {
        "labels": range(probabilities.shape[1]),
        "average": None,
        "zero_division": np.nan,
    }
    f1 = f1_score(targets, decided, **options)
    expected = {
        "precision": precision_score(targets, decided, **options),
        "recall": recall_score(targets, decided, **options),
        "f1": f1,
    }
    for name, reference in expected.items():
        assert all(map(same, per_class(results, name), reference))
    assert same(results["macro_f1"], mean_of_known(f1))
    assert (
        per_class(results, "images")
        == np.bincount(targets, minlength=probabilities.shape[1]).tolist()
    )


@given(single_label())
def test_single_label_average_precision_is_sklearns(case: Case) -> None:
    probabilities, _, targets = case
    results = measure_single(case)
    expected = average_precisions(probabilities, np.eye(probabilities.shape[1], dtype=int)[targets])
    assert all(map(same, per_class(results, "average_precision"), expected))
    assert same(results["mean_average_precision"], mean_of_known(expected))


@given(GENERATORS, IMAGES, st.integers(2, 8), st.sampled_from([0.1, 1.0]))
def test_calibration_error_follows_its_definition(
    generator: np.random.Generator, count: int, labels: int, evenness: float
) -> None:
    # Not rounded: a value on the edge of two bins may be counted in either.
    rows = generator.dirichlet(np.full(labels, evenness), size=count)
    probabilities, targets = rows.astype(np.float32), generator.integers(labels, size=count)
    case = probabilities, probabilities.argmax(axis=1), targets
    expected = calibration_error(probabilities.astype(np.float64), targets)
    assert measure_single(case)["calibration_error"] == pytest.approx(expected, abs=1e-5)


def test_calibration_error_of_four_images() -> None:
    probabilities = np.tile(np.float32([0.9, 0.1]), (4, 1))
    case = probabilities, np.zeros(4, np.int64), np.array([0, 0, 0, 1])
    assert measure_single(case)["calibration_error"] == pytest.approx(0.15)


@given(GENERATORS, IMAGES, st.integers(2, 9))
def test_top5_accuracy_counts_the_five_most_probable_classes(
    generator: np.random.Generator, count: int, labels: int
) -> None:
    probabilities = generator.dirichlet(np.ones(labels), size=count).astype(np.float32)
    targets = generator.integers(labels, size=count)
    results = measure_single((probabilities, probabilities.argmax(axis=1), targets))
    if labels <= 5:
        assert "top5_accuracy" not in results
        return
    best = np.argsort(-probabilities, axis=1)[:, :5]
    assert same(results["top5_accuracy"], float((best == targets[:, None]).any(axis=1).mean()))


@pytest.mark.parametrize("count", [MAX_CONFUSION_CLASSES, MAX_CONFUSION_CLASSES + 1])
def test_the_confusion_matrix_of_many_classes_is_omitted(count: int) -> None:
    probabilities = np.full((2, count), 1 / count, np.float32)
    results = measure_single((probabilities, np.array([0, 1]), np.array([0, 1])))
    assert ("confusion_matrix" in results) is (count == MAX_CONFUSION_CLASSES)
    assert len(results["per_class"]) == count


# ---- any number of labels per image, against references ----


@given(multi_label())
def test_multi_label_average_precision_is_sklearns(case: Case) -> None:
    probabilities, _, multi_hot = case
    results = measure_multi(case)
    expected = average_precisions(probabilities, multi_hot)
    assert all(map(same, per_class(results, "average_precision"), expected))
    mean = mean_of_known(expected)
    assert same(results["mean_average_precision"], 0.0 if math.isnan(mean) else mean)


@given(multi_label())
def test_multi_label_precision_recall_and_f1_are_sklearns(case: Case) -> None:
    _, decided, multi_hot = case
    results = measure_multi(case)
    # As many 0-or-1 columns as classes, and one more: scikit-learn takes a single one for ids.
    padded = [np.pad(columns, ((0, 0), (0, 1))) for columns in (multi_hot, decided)]
    options: dict[str, Any] = {"average": None, "zero_division": np.nan}
    expected = {
        name: measure(*padded, **options)[:-1]
        for name, measure in (
            ("precision", precision_score),
            ("recall", recall_score),
            ("f1", f1_score),
        )
    }
    for name, reference in expected.items():
        assert all(map(same, per_class(results, name), reference))
    assert per_class(results, "images") == multi_hot.sum(axis=0).tolist()
    assert same(results["macro_f1"], mean_of_known(expected["f1"]))
    micro = f1_score(multi_hot.flatten(), decided.flatten(), zero_division=np.nan)
    assert same(results["micro_f1"], micro)
    assert same(results["exact_match"], float((multi_hot == decided).all(axis=1).mean()))


# ---- both, against another reference ----


def of_torchmetrics(case: Case) -> dict[str, Any]:
    """Compute with torchmetrics what it has, rounded as its float32 are."""
    reference = pytest.importorskip("torchmetrics.functional.classification")
    probabilities, decided, targets = (torch.tensor(array) for array in case)
    count = probabilities.shape[1]
    if targets.ndim == 1:
        stats = reference.multiclass_stat_scores(decided, targets, count, average=None)
        present = torch.nn.functional.one_hot(targets, count)
        whole = {
            "calibration_error": reference.multiclass_calibration_error(
                probabilities, targets, count, n_bins=15
            ),
            "accuracy": reference.multiclass_accuracy(decided, targets, count, average="micro"),
        }
        matrix = reference.multiclass_confusion_matrix(decided, targets, count)
        if count > 5:
            whole["top5_accuracy"] = reference.multiclass_accuracy(
                probabilities, targets, count, average="micro", top_k=5
            )
    else:
        options: dict[str, Any] = {"num_labels": count, "validate_args": False}
        stats = reference.multilabel_stat_scores(decided, targets, average=None, **options)
        present = targets
        whole = {"exact_match": reference.multilabel_exact_match(decided, targets, **options)}
        matrix = None
    tp, fp, _, fn, images = stats.view(count, 5).T
    averages = [
        float(reference.binary_average_precision(own, column)) if column.any() else math.nan
        for own, column in zip(probabilities.T, present.T, strict=True)
    ]
    columns = {
        "precision": tp / (tp + fp),
        "recall": tp / images,
        "f1": 2 * tp / (2 * tp + fp + fn),
        "images": images,
        "average_precision": torch.tensor(averages),
    }
    return {
        **{name: float(value) for name, value in whole.items()},
        "confusion_matrix": None if matrix is None else matrix.tolist(),
        "columns": {name: value.tolist() for name, value in columns.items()},
    }


@pytest.mark.exhaustive  # torchmetrics takes seconds to import
@given(st.one_of(single_label(), multi_label()))
def test_results_are_those_of_torchmetrics(case: Case) -> None:
    measure = measure_single if case[2].ndim == 1 else measure_multi
    results, expected = measure(case), of_torchmetrics(case)
    assert results.get("confusion_matrix") == expected.pop("confusion_matrix")
    for name, values in expected.pop("columns").items():
        assert all(map(same, per_class(results, name), values)), name
    if case[0].shape[1] > 5 and "top5_accuracy" in expected:
        # Which of equally probable classes is among the five, torchmetrics leaves to chance.
        fifth = np.sort(case[0], axis=1)[:, -5:-4]
        if ((case[0] == fifth).sum(axis=1) > 1).any():
            del expected["top5_accuracy"]
    for name, value in expected.items():
        assert results[name] == pytest.approx(value, abs=2e-6), name


# ---- what holds for both ----


EITHER = st.one_of(
    st.tuples(st.just(measure_single), single_label()),
    st.tuples(st.just(measure_multi), multi_label()),
)


@given(EITHER, st.lists(st.integers(1, 39), max_size=5))
def test_results_do_not_depend_on_the_batches(either: Any, cuts: list[int]) -> None:
    measure, case = either
    assert measure(case, cuts) == measure(case)


@given(EITHER)
def test_all_results_are_json_values_between_0_and_1(either: Any) -> None:
    measure, case = either
    results = measure(case)
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    results.pop("confusion_matrix", None)
    for values in results["per_class"].values():
        assert values.pop("images") >= 0
    assert all(value is None or 0 <= value <= 1 for value in numbers(results))


@given(EITHER)
def test_perfect_predictions_score_1(either: Any) -> None:
    measure, (probabilities, _, targets) = either
    sure = targets if targets.ndim == 2 else np.eye(probabilities.shape[1], dtype=int)[targets]
    results = measure((sure.astype(np.float32), targets, targets))
    results.pop("confusion_matrix", None)
    for values in results["per_class"].values():
        values.pop("images")
    assert results.pop("calibration_error", 0.0) == 0
    if not sure.any():
        assert results.pop("mean_average_precision") == 0  # there is nothing to find
    assert all(value in (None, 1) for value in numbers(results))


@pytest.mark.parametrize("wrong", range(5))
def test_one_wrong_prediction_among_five_lowers_the_metrics(wrong: int) -> None:
    targets = np.array([0, 1, 0, 1, 0])
    decided = targets.copy()
    decided[wrong] = 1 - decided[wrong]
    case = np.eye(2, dtype=np.float32)[decided], decided, targets
    assert measure_single(case)["accuracy"] == 0.8
    multi_hot = np.eye(2, dtype=np.int64)
    many = multi_hot[decided].astype(np.float32), multi_hot[decided], multi_hot[targets]
    assert measure_multi(many)["exact_match"] == pytest.approx(0.8)


def test_undefined_values_are_none() -> None:
    # Label 0 is right once, label 1 is only predicted, label 2 only present, label 3 neither.
    case = np.eye(4, dtype=np.float32)[[0, 1]], np.array([0, 1]), np.array([0, 2])
    rows = measure_single(case)["per_class"]
    assert [row["precision"] for row in rows.values()] == [1, 0, None, None]
    assert [row["recall"] for row in rows.values()] == [1, None, 0, None]
    assert [row["f1"] for row in rows.values()] == [1, 0, 0, None]
    averages = [row["average_precision"] for row in rows.values()]
    assert averages == [1, None, 0.5, None]


def test_without_positives_the_averages_are_none_and_the_headline_is_0() -> None:
    zeros = np.zeros((3, 2), np.int64)
    results = measure_multi((np.full((3, 2), 0.1, np.float32), zeros, zeros))
    assert results["macro_f1"] is None
    assert results["micro_f1"] is None
    assert results["mean_average_precision"] == 0
    assert results["exact_match"] == 1


def test_one_multi_label_class_is_evaluated() -> None:
    probabilities = np.array([[0.9], [0.4], [0.2]], np.float32)
    results = measure_multi((probabilities, np.array([[1], [0], [0]]), np.array([[1], [1], [0]])))
    assert results["mean_average_precision"] == 1
    assert results["exact_match"] == pytest.approx(2 / 3)
    assert results["per_class"]["label 0"]["recall"] == 0.5


@pytest.mark.parametrize("kind", [SingleLabelMetrics, MultiLabelMetrics])
def test_no_images_raise(kind: type[ClassificationMetrics]) -> None:
    with pytest.raises(DataError, match="no images to evaluate"):
        kind(names(3)).compute()


def test_rounding_errors_of_probabilities_do_not_turn_them_into_logits() -> None:
    exact = np.array([[1, 0], [0.25, 0.75], [0.5, 0.5]], np.float32)
    over = exact + np.float32([[3e-7, -3e-7], [0, 0], [0, 0]])
    decided, targets = np.array([0, 1, 0]), np.array([0, 0, 1])
    assert measure_single((over, decided, targets)) == measure_single((exact, decided, targets))


def test_rounding_errors_do_not_exceed_1() -> None:
    generator = np.random.default_rng(0)
    for count in range(2, 200):
        probabilities = generator.uniform(size=(count, 1)).astype(np.float32)
        multi_hot = np.ones((count, 1), np.int64)
        assert measure_multi((probabilities, multi_hot, multi_hot))["mean_average_precision"] <= 1


def test_batches_are_copied() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    decided, targets = np.array([0, 1]), torch.tensor([0, 1])
    metrics = SingleLabelMetrics(names(2))
    metrics.update({"probabilities": probabilities, "labels": decided}, targets)
    before = metrics.compute()
    probabilities[:], decided[:] = 0, 0
    assert metrics.compute() == before


def test_results_per_class_are_named() -> None:
    metrics = SingleLabelMetrics(("zebra", "ant"))
    case = np.eye(2, dtype=np.float32), np.array([0, 1]), np.array([0, 0])
    results = measured(metrics, case)
    assert list(results["per_class"]) == ["zebra", "ant"]
    assert results["per_class"]["zebra"]["images"] == 2
