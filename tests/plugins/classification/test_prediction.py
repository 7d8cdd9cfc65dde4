from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.errors import ArtifactError
from visiongraft.plugins.classification.prediction import (
    Classified,
    MultiClassified,
    predictions,
)

CLASS_NAMES = ["cat", "dog", "eel"]
SINGLE = {"class_names": CLASS_NAMES, "multi_label": False}
MULTI = {"class_names": CLASS_NAMES, "multi_label": True}
ROWS = np.array([[0.25, 0.75, 0.0], [0.5, 0.0, 0.5]], np.float32)


def test_a_single_label_prediction_has_label_score_and_probabilities() -> None:
    first, second = predictions({"probabilities": ROWS, "labels": np.array([1, 0])}, SINGLE)
    assert first == Classified("dog", 0.75, {"cat": 0.25, "dog": 0.75, "eel": 0.0})
    assert second == Classified("cat", 0.5, {"cat": 0.5, "dog": 0.0, "eel": 0.5})


def test_multi_label_predictions_are_sorted_by_probability() -> None:
    rows = np.array([[0.5, 0.25, 0.875], [0.25, 0.25, 0.25]], np.float32)
    multi_hot = np.array([[1, 0, 1], [0, 0, 0]])
    first, second = predictions({"probabilities": rows, "labels": multi_hot}, MULTI)
    assert first == MultiClassified(("eel", "cat"), {"cat": 0.5, "dog": 0.25, "eel": 0.875})
    assert second == MultiClassified((), {"cat": 0.25, "dog": 0.25, "eel": 0.25})


def test_labels_of_equal_probability_keep_the_order_of_the_class_ids() -> None:
    arrays = {"probabilities": np.full((1, 3), 0.5), "labels": np.ones((1, 3), np.int64)}
    assert predictions(arrays, MULTI)[0].labels == ("cat", "dog", "eel")


def test_no_images_have_no_predictions() -> None:
    none: dict[str, Any] = {"probabilities": np.zeros((0, 3)), "labels": np.zeros(0, np.int64)}
    assert predictions(none, SINGLE) == []
    assert predictions({**none, "labels": np.zeros((0, 3), np.int64)}, MULTI) == []


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.booleans())
def test_predictions_convert_to_json_without_loss(seed: int, count: int, multi_label: bool) -> None:
    rows = np.random.default_rng(seed).uniform(size=(count, 3)).astype(np.float32)
    decided = (rows >= 0.5).astype(np.int64) if multi_label else rows.argmax(axis=1)
    found = predictions(
        {"probabilities": rows, "labels": decided},
        {"class_names": CLASS_NAMES, "multi_label": multi_label},
    )
    values = json.loads(json.dumps([asdict(p) for p in found]))
    assert np.array_equal(np.float32([list(v["probabilities"].values()) for v in values]), rows)
    if multi_label:
        multi_hot = [[name in v["labels"] for name in CLASS_NAMES] for v in values]
        assert np.array_equal(multi_hot, decided)
    else:
        assert [CLASS_NAMES.index(v["label"]) for v in values] == decided.tolist()
        assert [v["score"] for v in values] == rows.max(axis=1).tolist()


@pytest.mark.parametrize(
    ("rows", "decided", "metadata"),
    [
        (ROWS[:, :2], [1, 0], SINGLE),
        (ROWS, [1], SINGLE),
        (ROWS, [[1], [0]], SINGLE),
        (ROWS[0], [1], SINGLE),
        (ROWS[0, 0], 1, SINGLE),
        (ROWS, [1, 0], MULTI),
        (ROWS, [[1, 0], [0, 1]], MULTI),
        (ROWS, [[0, 0, 1], [0, 1, 0]], SINGLE),
        (ROWS[:0, :2], np.zeros(0, np.int64), SINGLE),
        (ROWS, [1, 3], SINGLE),
        (ROWS, [1, -1], SINGLE),
        (ROWS, [[0, 0, 1], [0, 2, 0]], MULTI),
        (ROWS, [[0, 0, 1], [0, -1, 0]], MULTI),
    ],
    ids=[
        "a name too many",
        "an image too few",
        "a dimension too many",
        "no batch",
        "a number",
        "ids of many labels",
        "multi_hot too few",
        "multi_hot of one label",
        "an empty batch",
        "an id too high",
        "an id too low",
        "a mark too high",
        "a mark too low",
    ],
)
def test_damaged_arrays_raise_a_one_line_error(
    rows: Any, decided: Any, metadata: dict[str, Any]
) -> None:
    arrays = {"probabilities": np.asarray(rows), "labels": np.asarray(decided)}
    with pytest.raises(ArtifactError, match=r"for 3 class names; its file or folder is") as caught:
        predictions(arrays, metadata)
    assert "\n" not in str(caught.value)


def test_predictions_do_not_import_torch() -> None:
    code = (
        "import sys; from visiongraft.plugins.classification.prediction import predictions; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
