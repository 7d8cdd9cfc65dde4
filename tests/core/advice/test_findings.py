"""Findings in a dataset, each planted: every one is found, and clean data have none."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visiongraft.advice.findings import (
    color_findings,
    contradicted,
    feature_findings,
    leak_findings,
    outlying,
    size_findings,
)
from visiongraft.data.report import DataReport
from visiongraft.data.samples import FileSamples
from visiongraft.inputs.samples import InputSamples

COUNT = 60


@pytest.fixture
def clean() -> Any:
    """Features of two separated classes, their labels and names."""
    generator = np.random.default_rng(0)
    labels = np.arange(COUNT) % 2
    features = generator.normal(size=(COUNT, 64)) + 8 * np.eye(64)[labels]
    return features, labels, [f"{i}.jpg" for i in range(COUNT)]


def test_clean_features_have_no_findings(clean: Any) -> None:
    features, labels, names = clean
    assert feature_findings(features, labels, names) == []
    others = np.random.default_rng(1).normal(size=(10, 64)) + 8 * np.eye(64)[0]
    assert leak_findings(features, others, names, names[:10]) == []


def test_of_a_handful_of_images_nothing_is_unusual(clean: Any) -> None:
    features, _, names = clean
    features[3] = -20 * np.eye(64)[5]
    assert outlying(features[:7]).size == 0
    assert leak_findings(features[:7], features[7:9], names[:7], names[7:9]) == []


def test_a_wrong_label_is_found(clean: Any) -> None:
    features, labels, names = clean
    labels = labels.copy()
    labels[7] = 1 - labels[7]
    assert contradicted(features, labels).tolist() == [7]
    (finding,) = feature_findings(features, labels, names)
    assert "1 labels are likely wrong: 7.jpg; look at them" in str(finding)


def test_an_outlier_is_found(clean: Any) -> None:
    features, _, names = clean
    features[3] = -20 * np.eye(64)[5]
    assert outlying(features).tolist() == [3]
    (finding,) = feature_findings(features, None, names)
    assert "1 images are unlike all others: 3.jpg" in str(finding)


def test_a_validation_image_that_is_nearly_in_training_is_found(clean: Any) -> None:
    features, _, names = clean
    others = np.random.default_rng(1).normal(size=(4, 64)) + 8 * np.eye(64)[0]
    others[2] = 1.1 * features[11]
    (finding,) = leak_findings(features, others, names, ["a", "b", "c", "d"])
    assert "nearly the same as training images: c ~ 11.jpg; validation flatters" in str(finding)


@pytest.mark.parametrize(
    ("side", "words"),
    [(32, ["enlarges them to 224x224"]), (1200, ["shrinks them to 224x224"]), (300, [])],
)
def test_sizes_far_from_the_networks_input_are_found(side: int, words: list[str]) -> None:
    sides = (side, side, side)
    found = size_findings(DataReport({}, heights=sides, widths=sides), (224, 224))
    assert len(found) == len(words)
    assert all(word in str(finding) for word, finding in zip(words, found, strict=True))


def test_gray_images_among_colored_ones_are_found() -> None:
    gray = np.repeat(np.arange(64, dtype=np.uint8).reshape(8, 8, 1), 3, axis=2)
    colored = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
    (some,) = color_findings(InputSamples.of([gray, colored]), 3)
    assert "1 of 2 images are gray; make sure that color does not depend on the class" in str(some)
    (all_of,) = color_findings(InputSamples.of([gray, gray]), 3)
    assert "2 of 2 images are gray; all are repeated to three channels" in str(all_of)
    assert color_findings(InputSamples.of([colored]), 3) == []


def test_cmyk_files_are_found(tmp_path: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 4), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels, mode="CMYK").save(buffer, "jpeg")
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    (finding,) = color_findings(FileSamples([tmp_path / "a.jpg"], [0]), 3)
    assert "1 images are CMYK" in str(finding)
