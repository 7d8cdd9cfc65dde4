"""Learning curves: a power law is continued, and intervals hold what more images really give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from visiongraft.advice.curves import _falling, _flattening, learning_curve
from visiongraft.advice.probes import fit_linear_probe


def drawn(images: int, separation: float, seed: int) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    labels = np.arange(images) % 2
    features = generator.normal(size=(images, 30))
    features[:, 0] += separation * labels
    return features, labels


def test_a_power_law_with_an_error_that_remains_is_continued() -> None:
    errors = 0.1 + 0.9 * np.array([10, 20, 40, 80, 160]) ** -0.5
    assert _flattening(errors[None, :4])[0] == pytest.approx(errors[4], abs=1e-3)


def test_a_power_law_without_an_error_that_remains_is_continued() -> None:
    errors = 0.9 * np.array([10, 20, 40, 80, 160]) ** -0.5
    for continued in (_flattening, _falling):
        assert continued(errors[None, :4])[0] == pytest.approx(errors[4], abs=1e-3)


def test_errors_that_rise_are_not_continued() -> None:
    errors = np.array([[0.1, 0.2, 0.3, 0.4]])
    assert _flattening(errors)[0] == pytest.approx(0.25)
    assert 0.1 < _falling(errors)[0] < 0.4


@pytest.mark.parametrize("separation", [2.0, 3.0])
def test_intervals_hold_the_accuracy_with_twice_the_images(separation: float) -> None:
    others, truth = drawn(2000, separation, seed=99)
    more = [fit_linear_probe(*drawn(256, separation, seed)) for seed in range(20, 26)]
    real = np.mean([(probe.predict(others) == truth).mean() for probe in more])
    curves = [learning_curve(*drawn(128, separation, seed), seed) for seed in range(10)]
    held = [c is not None and c.low <= real <= c.high for c in curves]
    assert sum(held) >= 9  # of 10
    (first, *_) = curves
    assert first is not None and first.low < first.expected < first.high
    assert (first.images, first.expected_images) == ((16, 32, 64, 128), 256)


def test_few_images_have_no_curve() -> None:
    assert learning_curve(*drawn(100, 1.0, seed=0), seed=0) is None
