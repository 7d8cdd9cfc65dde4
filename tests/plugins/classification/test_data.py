from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.data.check import check_evaluated
from visiongraft.data.samples import Splits
from visiongraft.errors import DataError, OptionError
from visiongraft.plugins.classification.data import (
    LabeledSamples,
    check_trainable,
    ids_of,
    read_evaluation,
    read_splits,
)

IMAGE = np.zeros((4, 4, 3), np.uint8)


def images(targets: Sequence[Any]) -> list[tuple[Any, Any]]:
    """A list of (image, target) is a map-style dataset."""
    return [(IMAGE, target) for target in targets]


def names_in(samples: Any) -> list[tuple[str, ...]]:
    return [tuple(samples.class_names[i] for i in ids_of(t)) for t in samples.targets]


# ---- class names and targets ----


def test_single_label_targets_are_class_ids(write_folder: Any) -> None:
    splits = read_splits(write_folder({"train/cat": 1, "train/dog": 2, "val/dog": 1}))
    assert [splits.train.target(i) for i in range(3)] == [0, 1, 1]
    assert splits.validation.target(0) == 1
    assert isinstance(splits.train.target(0), int)


def test_all_splits_share_the_class_names(write_folder: Any) -> None:
    splits = read_splits(write_folder({"train/b": 2, "train/c": 2, "val/a": 1, "val/c": 1}))
    assert isinstance(splits.train, LabeledSamples)
    assert isinstance(splits.validation, LabeledSamples)
    assert splits.train.class_names == splits.validation.class_names == ("a", "b", "c")
    assert names_in(splits.validation) == [("a",), ("c",)]


def test_an_unknown_label_raises_an_error_that_names_the_image(write_folder: Any) -> None:
    with pytest.raises(DataError, match=r"cat/000.png: label 'cat' is not in the label map"):
        read_splits(write_folder({"cat": 2, "dog": 2}), class_names=("cats", "dog"))


def test_multi_hot_targets_with_one_class_each_are_single_label() -> None:
    multi_hot = [np.eye(3, dtype=int)[i] for i in (0, 1, 2, 0, 1, 2)]
    assert read_splits(images(multi_hot)).facts["multi_label"] is False


def test_an_image_without_labels_makes_the_data_multi_label() -> None:
    splits = read_splits(images([["a"], ["b"], ["a"], ["b"], []]))
    assert splits.facts["multi_label"] is True


def test_single_label_data_can_be_read_as_multi_label(write_folder: Any) -> None:
    splits = read_splits(write_folder({"cat": 2, "dog": 2}), multi_label=True)
    assert splits.train.target(0) == (0,)


def test_a_subset_keeps_class_names_sample_names_and_images(write_folder: Any) -> None:
    splits = read_splits(write_folder({"train/a": 2, "train/b": 2, "val/a": 1}))
    part = splits.train.subset([3, 0])
    assert isinstance(part, LabeledSamples)
    assert part.class_names == ("a", "b")
    assert (len(part), part.target(0), part.target(1)) == (2, 1, 0)
    assert part.name(0) == splits.train.name(3)
    assert part.content(0) == splits.train.content(3)
    assert np.array_equal(part.load(0), splits.train.load(3))


def test_dropping_unreadable_images_keeps_the_class_names(write_folder: Any) -> None:
    root = write_folder({"train/a": 120, "train/b": 120, "val/a": 1})
    (root / "train/a/000.png").write_bytes(b"")
    checked = check_evaluated(read_splits(root).train)
    readable = checked.samples
    assert len(checked.report.unreadable) == 1
    assert isinstance(readable, LabeledSamples)
    assert readable.counts() == (119, 120)


# ---- the split ----


def validation_names(splits: Splits) -> set[str]:
    return {splits.validation.name(i) for i in range(len(splits.validation))}


def test_the_split_is_stratified_by_class(write_folder: Any) -> None:
    splits = read_splits(write_folder({"a": 10, "b": 20}), validation=0.2)
    assert splits.validation.counts() == (2, 4)  # type: ignore[attr-defined]
    assert splits.train.counts() == (8, 16)  # type: ignore[attr-defined]
    assert splits.facts["validation from"] == (
        "20% of the training images, stratified by class, seed 0"
    )


def test_the_split_depends_only_on_the_seed(write_folder: Any) -> None:
    root = write_folder({"a": 10, "b": 10})
    first, again = read_splits(root, seed=1), read_splits(root, seed=1)
    other = read_splits(root, seed=2)
    assert validation_names(first) == validation_names(again)
    assert validation_names(first) != validation_names(other)


def test_a_validation_split_is_used_unchanged(write_folder: Any) -> None:
    splits = read_splits(write_folder({"train/a": 9, "train/b": 9, "val/a": 1, "val/b": 1}))
    assert (len(splits.train), len(splits.validation)) == (18, 2)
    assert splits.facts["validation from"] == "the dataset's validation split"


def test_the_test_split_is_not_used_for_training(write_folder: Any) -> None:
    splits = read_splits(write_folder({"train/a": 5, "train/b": 5, "test/a": 3}))
    assert len(splits.train) + len(splits.validation) == 10
    assert not any("/test/" in name for name in validation_names(splits))
    assert splits.facts["test images, not used"] == 3


@given(
    st.lists(st.sets(st.sampled_from("abcd"), max_size=3), min_size=4, max_size=40),
    st.integers(0, 3),
)
def test_a_multi_label_split_loses_no_image_and_keeps_every_class_in_training(
    targets: list[set[str]], seed: int
) -> None:
    counted = {n: sum(n in t for t in targets) for n in "abcd"}
    if not any(0 < c < len(targets) for c in counted.values()):
        return
    data = images([sorted(t) for t in targets])
    try:
        splits = read_splits(data, multi_label=True, seed=seed)
    except DataError as error:
        assert "held out" in str(error) or "could be class ids" in str(error)
        return
    names = [splits.train.name(i) for i in range(len(splits.train))]
    assert sorted(names + list(validation_names(splits))) == sorted(
        f"item {i}" for i in range(len(targets))
    )
    learned = {n for names in names_in(splits.train) for n in names}
    assert learned == {n for n, c in counted.items() if c}


def test_a_class_that_is_never_the_rarest_stays_in_training() -> None:
    # "d" always comes with labels that are as rare, and all its images would be held out.
    splits = read_splits(images([["a", "b"], ["c"], ["a", "c", "d"], ["a", "b", "d"]]))
    assert {n for names in names_in(splits.train) for n in names} == set("abcd")


def test_a_rare_class_beside_a_common_one_is_validated() -> None:
    targets = [["common"]] * 40 + [["common", "rare"]] * 4
    splits = read_splits(images(targets), validation=0.25)
    assert splits.validation.counts() == (11, 1)  # type: ignore[attr-defined]


def test_classes_with_one_image_each_cannot_be_split() -> None:
    with pytest.raises(DataError, match="none can be held out"):
        read_splits(images(["a", "b", "c"]))


def test_an_invalid_validation_fraction_raises(write_folder: Any) -> None:
    with pytest.raises(OptionError, match="validation=1"):
        read_splits(write_folder({"a": 2, "b": 2}), validation=1)


# ---- facts and warnings ----


def test_facts_count_images_per_class_and_split(write_folder: Any) -> None:
    facts = read_splits(write_folder({"train/a": 6, "train/b": 5, "val/a": 2})).facts
    assert facts["classes"] == 2
    assert facts["training images per class"] == {"a": 6, "b": 5}
    assert facts["validation images per class"] == {"a": 2, "b": 0}


def test_a_balanced_dataset_causes_no_warning(write_folder: Any) -> None:
    assert read_splits(write_folder({"a": 10, "b": 12})).warnings == ()


@pytest.mark.parametrize(
    ("counts", "warning"),
    [
        ({"train/a": 9, "train/b": 9, "train/c": 0, "val/a": 1, "val/b": 1}, "'c'"),
        (
            {"train/a": 9, "train/b": 9, "val/a": 1, "val/b": 1, "val/c": 1},
            "classes without training images, which cannot be learned: c",
        ),
        (
            {"train/a": 9, "train/b": 9, "val/a": 1},
            "classes without validation images, which are not evaluated: b",
        ),
        (
            {"train/a": 9, "train/b": 3, "val/a": 1, "val/b": 1},
            "classes with fewer than 5 training images: b (3)",
        ),
        (
            {"train/a": 90, "train/b": 9, "val/a": 1, "val/b": 1},
            "the classes are imbalanced: 90 training images of 'a', 9 of 'b'; consider class_weights=",
        ),
    ],
    ids=["empty", "not in training", "not in validation", "few", "imbalanced"],
)
def test_unusual_classes_cause_one_warning(
    write_folder: Any, counts: dict[str, int], warning: str
) -> None:
    warnings = read_splits(write_folder(counts)).warnings
    assert len(warnings) == 1
    assert warning in warnings[0]


def test_class_names_that_the_data_lack_cause_a_warning(write_folder: Any) -> None:
    warnings = read_splits(write_folder({"a": 9, "b": 9}), class_names=("a", "b", "c")).warnings
    assert warnings == ("classes without images: c; add images, or remove the classes",)


def test_long_lists_of_classes_are_shortened(write_folder: Any) -> None:
    counts = {f"train/{n}": 2 for n in "abcdefgh"} | {f"val/{n}": 1 for n in "abcdefgh"}
    warnings = read_splits(write_folder(counts)).warnings
    assert "a (2), b (2), c (2), d (2), e (2) and 3 more; add images" in warnings[0]


def test_a_single_class_raises(write_folder: Any) -> None:
    with pytest.raises(DataError, match="all training images are of class 'a'; add"):
        read_splits(write_folder({"train/a": 3, "val/a": 1, "val/b": 1}))


def test_multi_label_data_whose_images_all_have_the_same_labels_raise() -> None:
    with pytest.raises(DataError, match="nothing to learn"):
        read_splits(images([["a", "b"]] * 6), multi_label=True)


def test_one_class_that_only_some_images_have_is_enough_for_multi_label() -> None:
    splits = read_splits(images([["a"], []] * 4))
    check_trainable(splits.train)  # type: ignore[arg-type]
    assert splits.train.class_names == ("a",)  # type: ignore[attr-defined]


def test_data_without_a_training_split_raise(write_folder: Any) -> None:
    root = write_folder({"val/a": 1, "val/b": 1, "test/a": 1})
    with pytest.raises(DataError, match="no training images, only validation and test"):
        read_splits(root)


# ---- evaluation ----


def test_evaluation_uses_the_class_ids_of_training(write_folder: Any) -> None:
    samples = read_evaluation(
        write_folder({"dog": 1, "ape": 1}), ("zebra", "dog", "ape"), False
    ).samples
    assert samples.targets == (2, 1)
    assert samples.class_names == ("zebra", "dog", "ape")


@pytest.mark.parametrize(
    ("splits", "chosen", "name"),
    [
        (("train", "val", "test"), "test", "test"),
        (("train", "val"), "val", "validation"),
        (("train", "test"), "test", "test"),
        (("train",), "train", "all"),
    ],
)
def test_evaluation_prefers_the_test_split_then_the_validation_split_and_names_it(
    write_folder: Any, splits: tuple[str, ...], chosen: str, name: str
) -> None:
    found = read_evaluation(write_folder({f"{s}/a": 1 for s in splits}), ("a", "b"), False)
    assert found.split == name
    assert len(found.samples) == 1
    assert f"/{chosen}/" in found.samples.name(0)


def test_evaluation_raises_on_an_unknown_label(write_folder: Any) -> None:
    with pytest.raises(DataError, match="label 'dgo' is not in the label map; did you mean 'dog'"):
        read_evaluation(write_folder({"dgo": 1}), ("cat", "dog"), False)


def test_evaluation_works_on_a_single_class(write_folder: Any) -> None:
    samples = read_evaluation(write_folder({"cat": 2}), ("cat", "dog"), False).samples
    assert samples.counts() == (2, 0)


def test_evaluation_warns_of_what_the_reader_skipped_and_of_classes_without_images(
    write_folder: Any,
) -> None:
    root = write_folder({"cat": 2})
    (root / "cat" / "notes.txt").write_text("not an image")
    warnings = read_evaluation(root, ("cat", "dog", "elk"), False).warnings
    assert any("notes.txt" in line for line in warnings)
    assert warnings[-1] == "classes without images, which are not evaluated: dog, elk"


def test_evaluation_of_sound_images_warns_of_nothing(write_folder: Any) -> None:
    found = read_evaluation(write_folder({"cat": 1, "dog": 1}), ("cat", "dog"), False)
    assert (found.split, found.warnings) == ("all", ())


def test_an_error_in_evaluation_carries_what_the_reader_noticed(write_folder: Any) -> None:
    root = write_folder({"dgo": 1})
    (root / "dgo" / "notes.txt").write_text("not an image")
    with pytest.raises(DataError, match=r"did you mean 'dog'\?.*noticed before: .*notes\.txt"):
        read_evaluation(root, ("cat", "dog"), False)
