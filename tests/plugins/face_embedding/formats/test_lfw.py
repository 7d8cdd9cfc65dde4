"""LFW's text files: pairs in folds, lists of people, and folders of people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from visiongraft.errors import DataError
from visiongraft.plugins.face_embedding.data import read_evaluation, read_splits
from visiongraft.plugins.face_embedding.formats.lfw import NamedPair, read_pairs, read_people
from visiongraft.plugins.face_embedding.formats.reading import find_dataset
from visiongraft.plugins.face_embedding.task import FaceEmbedding

WriteFolder = Callable[..., Path]
PAIRS = "2\t1\nada\t1\t2\nada\t1\tbob\t3\nbob\t1\t2\ncem\t2\tdor\t1\n"


@pytest.fixture
def lfw(write_people: WriteFolder) -> Path:
    root = write_people({f"lfw/{n}": 3 for n in ("ada", "bob", "cem", "dor")}, numbered=True)
    (root / "pairs.txt").write_text(PAIRS)
    return root


def test_pairs_are_read_with_their_folds(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text(PAIRS)
    assert read_pairs(tmp_path / "pairs.txt") == [
        NamedPair(("ada", 1), ("ada", 2), 0),
        NamedPair(("ada", 1), ("bob", 3), 0),
        NamedPair(("bob", 1), ("bob", 2), 1),
        NamedPair(("cem", 2), ("dor", 1), 1),
    ]


def test_a_list_of_one_set_has_one_fold(tmp_path: Path) -> None:
    (tmp_path / "pairsDevTest.txt").write_text("1\nada 1 2\nada 1 bob 3\n")  # also by blanks
    assert {pair.fold for pair in read_pairs(tmp_path / "pairsDevTest.txt")} == {0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not begin with the numbers"),
        ("ada\t1\t2\n", "does not begin with the numbers"),
        (
            "1\t2\nada\t1\t2\nada\t1\tbob\t1\n",
            "contains 2 pairs, but its first line announces 1 folds of 2",
        ),
        ("1\t1\nada\t1\ttwo\nada\t1\tbob\t1\n", "line 2: a pair must be NAME 1 2"),
        ("1\t1\nada\t1\nada\t1\tbob\t1\n", "line 2"),
        ("1\t1\nada\t1\t1\nada\t1\tbob\t1\n", "line 2: a pair must be of two images"),
    ],
)
def test_a_malformed_list_of_pairs_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(DataError, match=words):
        read_pairs(tmp_path / "pairs.txt")


def test_people_are_read_in_every_form(tmp_path: Path) -> None:
    known = {"ada", "bob", "7"}
    for text in ("2\n1\nada\t3\n1\nbob\t1\n", "2\nada\t3\nbob\t1\n", "ada\nbob\n"):
        (tmp_path / "people.txt").write_text(text)
        assert read_people(tmp_path / "people.txt", known, []) == ["ada", "bob"]
    (tmp_path / "people.txt").write_text("ada\n7\n")  # a person whose name is a number
    assert read_people(tmp_path / "people.txt", known, []) == ["ada", "7"]


@pytest.mark.parametrize(("text", "words"), [("eve\t2\n", "lists 'eve', who"), ("\n", "nobody")])
def test_listed_people_without_images_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "people.txt").write_text(text)
    with pytest.raises(DataError, match=words):
        read_people(tmp_path / "people.txt", {"ada"}, [])


def test_images_know_the_pairs_they_are_in(lfw: Path) -> None:
    samples = read_evaluation(lfw).samples
    by_name = {Path(samples.name(i)).stem: samples.target(i) for i in range(len(samples))}
    assert by_name["ada_0001"].pairs == ((0, 0), (1, 0))
    assert by_name["dor_0001"].pairs == ((3, 1),)
    assert by_name["dor_0002"].pairs == ()


def test_pairs_with_a_missing_image_are_left_out_and_counted(lfw: Path) -> None:
    """As after ``align_folder``, which leaves images without a face out."""
    next(lfw.rglob("bob_0002.*")).unlink()
    found = find_dataset(lfw)
    assert [pair[2] for pair in found.pairs] == [0, 0, 1]
    (line,) = found.warnings
    assert line.endswith(
        "lists 4 pairs; 1 of them are left out, because images do not exist: bob/bob_0002"
    )
    counts = [len(read_evaluation(lfw).samples.target(i).pairs) for i in range(11)]
    assert sum(counts) == 6


def test_pairs_of_which_no_image_exists_are_refused(lfw: Path) -> None:
    (lfw / "pairs.txt").write_text("1\t1\nada\t1\t9\nada\t1\tbob\t7\n")
    with pytest.raises(DataError, match="lists only images that do not exist, as ada/ada_0009"):
        read_evaluation(lfw)


def test_people_without_images_are_left_out_and_counted(lfw: Path) -> None:
    (lfw / "people.txt").write_text("ada\t3\nbob\t3\neve\t2\n")
    found = find_dataset(lfw)
    assert set(found.splits["train"].names) == {"ada", "bob"}
    assert "lists 1 people without images, who are left out: eve" in found.warnings[0]
    assert found.warnings[1].endswith(
        "2 people in none of the lists of people are skipped: cem, dor"
    )


def test_lists_of_people_divide_the_set(lfw: Path) -> None:
    (lfw / "people_train.txt").write_text("ada\nbob\n")
    (lfw / "people_val.txt").write_text("cem\ndor\n")
    splits = read_splits(lfw)
    assert set(splits.train.counts()) == {"ada", "bob"}
    assert set(splits.validation.counts()) == {"cem", "dor"}
    assert "random pairs are drawn instead" in " ".join(
        splits.warnings
    )  # the listed ones are all of two people
    assert set(read_evaluation(lfw).samples.counts()) == {"cem", "dor"}


def test_lfws_own_names_of_these_lists_are_known(lfw: Path) -> None:
    (lfw / "peopleDevTrain.txt").write_text("2\nada\t3\nbob\t3\n")
    (lfw / "peopleDevTest.txt").write_text("2\ncem\t3\ndor\t3\n")
    assert set(read_splits(lfw).validation.counts()) == {"cem", "dor"}
    (lfw / "peopleDevTest.txt").write_text("2\nbob\t3\ndor\t3\n")
    with pytest.raises(DataError, match="1 identities are in training and in validation: bob"):
        read_splits(lfw)


def test_people_txt_selects_the_people_of_the_dataset(lfw: Path) -> None:
    (lfw / "people.txt").write_text("1\n3\nada\t3\nbob\t3\ncem\t3\n")
    assert set(read_evaluation(lfw).samples.counts()) == {"ada", "bob", "cem"}


def test_people_may_be_in_the_folder_itself(write_people: WriteFolder) -> None:
    root = write_people({"ada": 3, "bob": 3}, numbered=True)
    (root / "pairs.txt").write_text("1\t1\nada\t1\t2\nada\t1\tbob\t3\n")
    assert len(read_evaluation(root).samples) == 6


def test_lists_without_images_are_reported(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text(PAIRS)
    with pytest.raises(DataError, match="lists of people, but no NAME/image"):
        read_evaluation(tmp_path)


def test_listed_pairs_are_measured(lfw: Path) -> None:
    """Vectors by hand, so that each fold's accuracy is known."""
    task, samples = FaceEmbedding(dimension=2), read_evaluation(lfw).samples
    angles = {"ada_0001": 0.0, "ada_0002": 0.1, "bob_0003": 1.0, "bob_0001": 1.2, "bob_0002": 1.4}
    angles |= {"cem_0002": 2.0, "dor_0001": 2.05}  # of two people, but near each other
    metrics = task.build_metrics()
    for i in np.random.default_rng(0).permutation(len(samples)):
        angle = angles.get(Path(samples.name(int(i))).stem, 3.0)
        vector = np.array([[np.cos(angle), np.sin(angle)]])
        metrics.update({"embedding": vector}, task.collate([samples.target(int(i))]))
    results = metrics.compute()
    assert (results["pairs"], results["pairs_listed"], results["folds"]) == (4, True, 2)
    # Fold 1, whose two pairs are in the wrong order, accepts all from 0.98 on, which is right for
    # both pairs of fold 0; what parts those two is right for one pair of fold 1.
    assert results["verification_accuracy"] == 0.75
    assert results["folds_share_no_identity"] is False
