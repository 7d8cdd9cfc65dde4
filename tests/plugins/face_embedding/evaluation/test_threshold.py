"""The threshold for a false accept rate says how sure it is, and is refused where it cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from visiongraft.plugins.face_embedding.evaluation.protocol import RocCurve, best_threshold, between
from visiongraft.plugins.face_embedding.evaluation.threshold import (
    people_needed,
    rate_interval,
    threshold_for,
)


def population(
    random: np.random.Generator, people: int, images: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw similarities of all pairs of images; some people resemble everybody more than others."""
    person = np.repeat(np.arange(people), images)
    a, b = np.triu_indices(len(person), 1)
    first, second = person[a], person[b]
    alike = random.normal(0, 0.1, people)
    similarities = random.normal(0.1, 0.1, len(a)) + alike[first] + alike[second]
    return np.where(first == second, 0.9, similarities).clip(-1, 1), first, second


@pytest.mark.parametrize(("rate", "people"), [(0.1, 9), (0.01, 25), (0.001, 78)])
def test_a_threshold_needs_three_pairs_of_people_per_expected_false_accept(
    rate: float, people: int
) -> None:
    assert people_needed(rate) == people
    random = np.random.default_rng(0)
    found = threshold_for(*population(random, people, 2), rate)
    assert found.people == people and found.pairs_of_people == people * (people - 1) // 2
    assert found.value is not None
    few = threshold_for(*population(random, people - 1, 2), rate)
    assert (few.value, few.interval, few.people) == (None, None, people - 1)


def test_many_images_of_three_people_do_not_replace_people() -> None:
    found = threshold_for(*population(np.random.default_rng(0), 3, 40), 0.01)
    assert (found.value, found.people, found.pairs_of_people) == (None, 3, 3)


def test_the_threshold_has_the_rate_on_its_pairs_and_states_what_it_accepts() -> None:
    similarities, first, second = population(np.random.default_rng(1), 40, 3)
    found = threshold_for(similarities, first, second, 0.01)
    assert found.value is not None and found.interval is not None
    accepted, same = similarities >= found.value, first == second
    assert found.false_accept_rate == accepted[~same].mean() <= 0.01
    assert found.true_accept_rate == accepted[same].mean()
    assert accepted[~same].sum() == int(0.01 * (~same).sum())  # no lower threshold has the rate
    assert found.interval[0] < found.false_accept_rate < found.interval[1]


def test_the_interval_contains_the_true_rate_as_often_as_it_says() -> None:
    random, threshold = np.random.default_rng(2), 0.4
    truth = (population(random, 1500)[0] >= threshold).mean()
    hits, naive = 0, 0
    for _ in range(200):
        similarities, first, second = population(random, 30)
        accepted = similarities >= threshold
        low, high = rate_interval(accepted, first, second)
        hits += low <= truth <= high
        error = 1.96 * np.sqrt(accepted.mean() * (1 - accepted.mean()) / len(accepted))
        naive += abs(accepted.mean() - truth) <= error
    assert 0.9 <= hits / 200 <= 1.0
    assert naive / 200 < 0.75  # taking all pairs for independent would claim far too much


def test_without_a_false_accept_the_interval_ends_where_the_number_of_people_puts_it() -> None:
    _, first, second = population(np.random.default_rng(0), 25)
    low, high = rate_interval(np.zeros(300, bool), first, second)
    assert low == 0 and 0.01 < high < 0.013
    _, first, second = population(np.random.default_rng(0), 25, 4)  # more images, no more people
    different = first != second
    many = rate_interval(np.zeros(different.sum(), bool), first[different], second[different])
    assert many == (low, high)


def test_pairs_of_one_person_with_all_others_are_as_good_as_one_pair() -> None:
    low, high = rate_interval(np.zeros(500, bool), np.zeros(500, int), np.arange(1, 501))
    assert low == 0 and high > 0.7


# ---- ties ----


def test_a_threshold_between_neighboring_numbers_accepts_only_the_higher_one() -> None:
    for low in (0.1, 0.5, 0.9999999999999999, -0.3):
        high = float(np.nextafter(low, np.inf))
        assert low < between(low, high) <= high
        same = np.array([False, True])
        threshold = best_threshold(np.array([low, high]), same)
        assert ((np.array([low, high]) >= threshold) == same).all()


def test_thresholds_stand_between_similarities_so_that_rounding_changes_no_decision() -> None:
    similarities = np.array([0.9, 0.8, 0.6, *np.linspace(0, 0.3, 97)])
    same = np.array([True, True, False] + [False] * 97)
    found = RocCurve.of(similarities, same).at_far(0.0103)
    assert found == (1.0, pytest.approx(0.45))


def test_tied_similarities_at_the_top_are_not_accepted_below_their_rate() -> None:
    """Two of a hundred pairs of two people are duplicates, so no threshold accepts one percent."""
    similarities = np.array([1.0, 1.0, 0.9, *np.linspace(0, 0.3, 98)])
    same = np.array([False, False, True] + [False] * 98)
    assert RocCurve.of(similarities, same).at_far(0.01) is None
    similarities[:2] = 0.95
    found = RocCurve.of(similarities, same).at_far(0.01)
    assert found is not None and found[0] == 0
    assert found[1] > 0.95 and not (similarities >= found[1]).any()


def test_constant_embeddings_have_no_threshold() -> None:
    first, second = np.triu_indices(60, 1)
    found = threshold_for(np.ones(len(first)), first // 2, second // 2, 0.01)
    assert found.value is None
