"""H-score, TransRate, GBC and PARC against dense formulas, scikit-learn and scipy."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.covariance import LedoitWolf

from visiongraft.errors import OptionError
from visiongraft.plugins.scorers.gbc import GBC
from visiongraft.plugins.scorers.h_score import HScore
from visiongraft.plugins.scorers.parc import PARC
from visiongraft.plugins.scorers.transrate import TransRate


def class_means(given: Any) -> Any:
    """The class mean of each image, centered."""
    centered = given.features - given.features.mean(0)
    return np.stack([centered[given.labels == label].mean(0) for label in given.labels])


@pytest.mark.parametrize("shape", [(30, 5), (10, 40)])
def test_h_score_is_the_trace_with_ledoit_and_wolfs_covariance(
    shape: tuple[int, int], make_scored: Any
) -> None:
    given = make_scored(*shape)
    fitted = LedoitWolf().fit(given.features)
    means = class_means(given)
    between = (1 - fitted.shrinkage_) * means.T @ means / len(means)
    expected = np.trace(np.linalg.solve(fitted.covariance_, between))
    assert HScore().score(given) == pytest.approx(expected)


def test_h_score_without_shrinkage_is_the_trace_of_the_paper(make_scored: Any) -> None:
    given = make_scored()
    means = class_means(given)
    between = means.T @ means / len(means)
    expected = np.trace(np.linalg.pinv(np.cov(given.features.T, bias=True)) @ between)
    assert HScore(shrinkage=False).score(given) == pytest.approx(expected)


def test_only_h_score_without_shrinkage_takes_noise_for_classes(make_scored: Any) -> None:
    noise = np.random.default_rng(0).normal(size=(30, 100))
    given = replace(make_scored(), features=noise)
    assert HScore(shrinkage=False).score(given) == pytest.approx(2)
    assert HScore().score(given) < 0.5


@pytest.mark.parametrize("options", [{}, {"shrinkage": False}])
def test_the_scale_of_features_does_not_matter_for_h_score(
    options: dict[str, bool], make_scored: Any
) -> None:
    given = make_scored()
    scaled = replace(given, features=1e3 * given.features + 5)
    scorer = HScore(**options)
    assert scorer.score(scaled) == pytest.approx(scorer.score(given))


@pytest.mark.parametrize("shape", [(30, 5), (10, 40)])
def test_transrate_is_the_difference_of_coding_rates(
    shape: tuple[int, int], make_scored: Any
) -> None:
    given = make_scored(*shape)
    centered = given.features - given.features.mean(0)

    def rate(rows: Any) -> float:
        eigenvalues = np.linalg.eigvalsh(rows.T @ rows / (len(rows) * 0.1))
        return float(np.log(1 + eigenvalues.clip(0)).sum() / 2)

    own = [centered[given.labels == c] for c in range(3)]
    expected = rate(centered) - sum(len(o) / len(centered) * rate(o) for o in own)
    assert TransRate(eps=0.1).score(given) == pytest.approx(expected)


def test_transrate_does_not_depend_on_a_rotation_or_a_shift(make_scored: Any) -> None:
    given = make_scored()
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    other = replace(given, features=given.features @ turned + 3)
    assert TransRate().score(other) == pytest.approx(TransRate().score(given))


def test_gbc_is_the_sum_of_bhattacharyya_coefficients(make_scored: Any) -> None:
    given = make_scored(30, 5)
    centered = given.features - given.features.mean(0)
    axes = np.linalg.eigh(centered.T @ centered)[1][:, ::-1][:, :2]
    total = 0.0
    for one, other in permutations(range(3), 2):
        p, q = (centered[given.labels == c] @ axes for c in (one, other))
        s, t = np.diag(p.var(0)), np.diag(q.var(0))
        gap, mixed = p.mean(0) - q.mean(0), (s + t) / 2
        distance = gap @ np.linalg.inv(mixed) @ gap / 8
        determinants = np.linalg.det(s) * np.linalg.det(t)
        distance += np.log(np.linalg.det(mixed) / np.sqrt(determinants)) / 2
        total += np.exp(-distance)
    assert GBC(dimensions=2).score(given) == pytest.approx(-total)


def test_gbc_is_between_equal_and_distant_classes(make_scored: Any) -> None:
    given = make_scored(30, 5)
    equal = replace(given, features=np.ones((30, 5)))
    far = replace(given, features=given.features + 1e3 * np.eye(5)[given.labels])
    assert GBC().score(equal) == pytest.approx(-6)
    assert GBC().score(far) == pytest.approx(0, abs=1e-9)


def test_parc_is_spearmans_correlation_of_the_distances(make_scored: Any) -> None:
    given = make_scored(20, 6)
    standard = (given.features - given.features.mean(0)) / given.features.std(0)
    above = np.triu_indices(20, 1)
    distances = (1 - np.corrcoef(standard))[above]
    labels = (1 - np.corrcoef(np.eye(3)[given.labels]))[above]
    expected = 100 * spearmanr(distances, labels.round(9)).statistic
    assert PARC().score(given) == pytest.approx(expected)


def test_parc_of_constant_features_is_0(make_scored: Any) -> None:
    assert PARC().score(replace(make_scored(), features=np.ones((30, 5)))) == 0


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(OptionError, match="eps=0"):
        TransRate(eps=0)
    with pytest.raises(OptionError, match="dimensions=0"):
        GBC(dimensions=0)
    with pytest.raises(OptionError, match="shrinkage='yes'"):
        HScore(shrinkage="yes")  # type: ignore[arg-type]
