"""Sampled pairs: balanced, seeded, in folds that share no identity where possible."""

from __future__ import annotations

import numpy as np
import pytest

from visiongraft.plugins.face_embedding.evaluation import pairs as module
from visiongraft.plugins.face_embedding.evaluation.pairs import Pairs, all_pairs, draw_pairs


def people(identities: int, each: int) -> list[str]:
    return [f"p{i // each:04d}" for i in range(identities * each)]


def check_pairs(found: Pairs, names: list[str]) -> None:
    """Check any pairs: two images each, labeled correctly, none twice."""
    assert (found.first != found.second).all()
    array = np.array(names)
    assert ((array[found.first] == array[found.second]) == found.same).all()
    keys = {tuple(sorted(p)) for p in zip(found.first.tolist(), found.second.tolist(), strict=True)}
    assert len(keys) == len(found)


@pytest.mark.parametrize(("identities", "each"), [(2, 2), (3, 3), (10, 10), (25, 4), (60, 30)])
def test_pairs_are_balanced_in_every_fold(identities: int, each: int) -> None:
    names = people(identities, each)
    found = draw_pairs(names)
    check_pairs(found, names)
    assert found.has_both_kinds()
    for fold in np.unique(found.folds):
        assert found.same[found.folds == fold].mean() == 0.5


def test_fifty_identities_make_ten_folds_without_a_common_identity() -> None:
    names = people(50, 4)
    found = draw_pairs(names)
    assert len(np.unique(found.folds)) == 10
    assert found.folds_share_no_identity(names)
    few = draw_pairs(people(49, 4))
    assert len(np.unique(few.folds)) == 10
    assert not few.folds_share_no_identity(people(49, 4))


def test_people_with_one_image_do_not_empty_a_fold() -> None:
    names = people(50, 3) + [f"single{i}" for i in range(500)]
    found = draw_pairs(names)
    check_pairs(found, names)
    assert found.folds_share_no_identity(names)
    assert set(np.bincount(found.folds)) == {30}  # five people of three images: 15 pairs of one


def test_a_fold_has_at_most_three_hundred_pairs_of_a_kind() -> None:
    found = draw_pairs(people(50, 40))
    assert set(np.bincount(found.folds)) == {600}


def test_the_seed_decides_and_nothing_else() -> None:
    names = people(25, 6)
    one, same, other = draw_pairs(names), draw_pairs(names), draw_pairs(names, seed=1)
    assert (one.first == same.first).all()
    assert (one.second == same.second).all()
    assert len(one) != len(other) or (one.first != other.first).any()


@pytest.mark.parametrize("names", [[], ["a"], ["a", "b", "c"], ["a", "a", "a"]])
def test_there_are_no_pairs_without_two_images_of_one_identity(names: list[str]) -> None:
    assert len(draw_pairs(names)) == 0
    assert not draw_pairs(names).has_both_kinds()


def test_all_pairs_are_all_pairs() -> None:
    names = people(5, 4)
    found = all_pairs(names)
    check_pairs(found, names)
    assert len(found) == 20 * 19 // 2
    assert found.same.sum() == 5 * 6


def test_too_many_pairs_are_drawn_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PAIRS", 1000)
    monkeypatch.setattr(module, "SAMPLED_PAIRS", 400)
    names = people(30, 20)
    found = all_pairs(names)
    check_pairs(found, names)
    assert (found.same.sum(), (~found.same).sum()) == (400, 400)
    few = all_pairs(people(300, 2))  # only so many pairs of one identity exist
    check_pairs(few, people(300, 2))
    assert few.same.sum() == 300


def test_drawn_pairs_of_one_identity_are_as_likely_as_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_PAIRS", 10)
    monkeypatch.setattr(module, "SAMPLED_PAIRS", 20)
    names = ["a"] * 10 + ["b"] * 5  # 45 and 10 pairs
    counts = np.zeros((15, 15))
    for seed in range(400):
        found = all_pairs(names, seed)
        rows, columns = found.first[found.same], found.second[found.same]
        counts[np.minimum(rows, columns), np.maximum(rows, columns)] += 1
    drawn = counts[np.triu_indices(15, 1)]
    drawn = drawn[drawn > 0]
    assert len(drawn) == 55
    assert np.abs(drawn / drawn.mean() - 1).max() < 0.35  # 145 draws each, deviation 0.07
