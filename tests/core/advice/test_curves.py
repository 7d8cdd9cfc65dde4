"""Learning curves: a power law is continued, and intervals hold what more images really give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from visiongraft.advice.curves import learning_curve
from visiongraft.advice.power_laws import fit_falling, fit_flattening
from visiongraft.advice.probes import fit_linear_probe


def drawn(images: int, separation: float, seed: int) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    labels = np.arange(images) % 2
    features = generator.normal(size=(images, 30))
    features[:, 0] += separation * labels
    return features, labels


def test_a_power_law_with_an_error_that_remains_is_continued() -> None:
    errors = 0.1 + 0.9 * np.array([10, 20, 40, 80, 160]) ** -0.5
    assert fit_flattening(errors[None, :4]).at(4)[0] == pytest.approx(errors[4], abs=1e-3)


def test_a_power_law_without_an_error_that_remains_is_continued() -> None:
    errors = 0.9 * np.array([10, 20, 40, 80, 160]) ** -0.5
    for fit in (fit_flattening, fit_falling):
        assert fit(errors[None, :4]).at(4)[0] == pytest.approx(errors[4], abs=1e-3)


def test_errors_that_rise_are_not_continued() -> None:
    errors = np.array([[0.1, 0.2, 0.3, 0.4]])
    assert fit_flattening(errors).at(4)[0] == pytest.approx(0.25)
    assert 0.1 < fit_falling(errors).at(4)[0] < 0.4


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


def test_the_labels_for_an_accuracy_are_those_where_the_law_reaches_it() -> None:
    law = fit_flattening((0.1 + 0.4 * 0.5 ** np.arange(4))[None])
    assert law.reaching(0.11)[0] == pytest.approx(np.log2(40), abs=0.02)
    assert law.reaching(0.09)[0] == np.inf
    assert law.reaching(0.6)[0] == 0


def test_a_curve_is_flat_where_another_doubling_removes_less_than_a_point() -> None:
    law = fit_flattening((0.1 + 0.4 * 0.5 ** np.arange(4))[None])
    flat = law.flat_from()[0]
    assert law.at(flat)[0] - law.at(flat + 1)[0] == pytest.approx(0.01, abs=1e-4)


def test_needed_labels_have_an_interval_that_holds_what_is_expected() -> None:
    features, labels = drawn(256, 3.0, seed=1)
    flat = learning_curve(features, labels, 0)
    assert flat is not None and flat.needed.accuracy is None
    reachable = learning_curve(features, labels, 0, target=flat.accuracies[-1])
    assert reachable is not None and reachable.needed.accuracy == flat.accuracies[-1]
    for needed in (flat.needed, reachable.needed):
        assert needed.images is not None and needed.low is not None
        assert needed.low <= needed.images and (needed.high or np.inf) >= needed.images
        assert f"about {needed.images} labels ({needed.low} to" in str(needed)


def test_an_accuracy_that_no_number_of_labels_reaches_is_told() -> None:
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(256, 20)), np.arange(256) % 2
    curve = learning_curve(features, labels, 0, target=0.999)
    assert curve is not None and curve.needed.images is None
    assert "labels" in str(curve.needed) and "for an accuracy of 0.999" in str(curve.needed)


def test_few_images_have_no_curve() -> None:
    assert learning_curve(*drawn(100, 1.0, seed=0), seed=0) is None
