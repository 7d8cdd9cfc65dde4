"""Validation splits are stratified and seeded, and keep every class on both sides."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.data.samples import FileSamples, Samples
from visiongraft.data.splits import (
    as_pair,
    join_pair,
    split_by_class,
    stratified_split,
    training_and_validation,
)
from visiongraft.errors import DataError, OptionError

keys = st.lists(st.sampled_from("abcd"), max_size=60)
fractions = st.floats(0.01, 0.99)
seeds = st.integers(0, 1000)


@given(keys, fractions, seeds)
def test_every_sample_is_on_exactly_one_side_in_order(keys, fraction, seed):
    kept, validation = stratified_split(keys, fraction, seed)
    assert sorted(kept + validation) == list(range(len(keys)))
    assert kept == sorted(kept) and validation == sorted(validation)


@given(keys, fractions, seeds)
def test_the_fraction_of_every_key_is_met_within_one_sample(keys, fraction, seed):
    _, validation = stratified_split(keys, fraction, seed)
    taken = Counter(keys[i] for i in validation)
    for key, count in Counter(keys).items():
        if count == 1:
            assert taken[key] == 0
        else:
            assert 1 <= taken[key] <= count - 1
            assert abs(taken[key] - count * fraction) <= 1


@given(keys, fractions, seeds)
def test_the_same_seed_draws_the_same_split(keys, fraction, seed):
    assert stratified_split(keys, fraction, seed) == stratified_split(keys, fraction, seed)


def test_the_split_is_the_same_in_every_version():
    assert stratified_split(["a"] * 10 + ["b"] * 5, 0.3, seed=7)[1] == [1, 3, 5, 11, 13]


def test_a_plain_split_holds_out_its_fraction():
    kept, validation = stratified_split([0] * 1000, 0.25)
    assert (len(kept), len(validation)) == (750, 250)
    assert 250 * 0.4 < sum(i < 500 for i in validation) < 250 * 0.6  # from all over


def test_nothing_and_single_samples_are_kept():
    assert stratified_split([], 0.5) == ([], [])
    assert stratified_split(["a", "b", "c"], 0.9) == ([0, 1, 2], [])


def test_another_seed_changes_the_split():
    splits = {tuple(stratified_split(["a"] * 50, 0.2, seed)[1]) for seed in range(5)}
    assert len(splits) == 5


@given(keys, seeds)
def test_other_keys_do_not_change_which_samples_of_a_key_are_taken(keys, seed):
    _, alone = stratified_split(["a"] * len(keys), 0.5, seed)
    _, among = stratified_split(["a"] * len(keys) + ["z"] * 4, 0.5, seed)
    assert alone == [i for i in among if i < len(keys)]


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2, float("nan")])
def test_a_fraction_outside_of_0_to_1_is_refused(fraction):
    with pytest.raises(OptionError, match="is not a fraction in"):
        stratified_split(["a", "a"], fraction)


def test_a_pair_is_two_datasets_and_no_other_tuple() -> None:
    assert as_pair(("a", "b")) == ("a", "b") and as_pair(["a", "b"]) is None
    with pytest.raises(DataError, match=r"a pair \(training, validation\), not 3 items"):
        as_pair(("a", "b", "c"))


def test_a_pair_trains_on_the_first_and_validates_on_the_second_dataset() -> None:
    first, second = {"train": 1, "validation": 2}, {"train": 3, "test": 4}
    assert join_pair(first, second) == {"train": 1, "validation": 4}
    with pytest.raises(DataError, match="the training dataset of the pair has no training images"):
        join_pair({"test": 1}, second)


def test_a_class_is_held_out_only_if_another_sample_of_it_is_trained_on() -> None:
    classes = [[0], [0, 1], [0, 2], [0], [2], []]
    for seed in range(20):
        kept, validation = split_by_class(classes, [4, 1, 2], 0.5, seed)
        assert sorted([*kept, *validation]) == list(range(6)) and validation
        assert {i for position in kept for i in classes[position]} == {0, 1, 2}


def test_classes_of_one_sample_each_cannot_be_split() -> None:
    with pytest.raises(DataError, match="no class has two images"):
        split_by_class([[0], [1]], [1, 1], 0.5)


def test_training_samples_are_held_out_only_without_a_validation_split() -> None:
    def samples(count: int) -> FileSamples:
        return FileSamples([Path(f"{i}.png") for i in range(count)], list(range(count)))

    def names(found: Samples) -> list[str]:
        return [found.name(i) for i in range(len(found))]

    splits: dict[str, Samples] = {"train": samples(3), "validation": samples(1)}
    train, validation, origin = training_and_validation(splits, lambda _: ([], []), "by seed")
    assert (names(train), names(validation)) == (["0.png", "1.png", "2.png"], ["0.png"])
    assert origin == "the dataset's validation split"
    del splits["validation"]
    train, validation, origin = training_and_validation(splits, lambda _: ([0, 2], [1]), "by seed")
    assert (names(train), names(validation), origin) == (["0.png", "2.png"], ["1.png"], "by seed")
