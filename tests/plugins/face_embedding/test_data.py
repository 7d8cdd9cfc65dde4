"""Splits without common identities, from every dataset format."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visiongraft.data.samples import Splits
from visiongraft.errors import DataError, OptionError
from visiongraft.plugins.face_embedding.data import read_evaluation, read_splits
from visiongraft.plugins.face_embedding.faces import Face, FaceSamples
from visiongraft.plugins.face_embedding.formats.reading import find_dataset
from visiongraft.plugins.face_embedding.task import FaceEmbedding

WriteFolder = Callable[..., Path]
EIGHT = {f"p{i}": 3 for i in range(8)}


def people_of(samples: object) -> set[str]:
    assert isinstance(samples, FaceSamples)
    return set(samples.counts())


def parts(splits: Splits) -> tuple[set[str], set[str]]:
    return people_of(splits.train), people_of(splits.validation)


# ---- the split ----


@pytest.mark.parametrize("seed", range(5))
def test_the_split_shares_no_identity_and_depends_on_the_seed(
    write_people: WriteFolder, seed: int
) -> None:
    root = write_people({f"p{i}": 2 for i in range(20)})
    splits, again = read_splits(root, seed=seed), read_splits(root, seed=seed)
    train, validation = parts(splits)
    assert not train & validation
    assert len(validation) == 4
    assert parts(again) == (train, validation)
    assert parts(read_splits(root, seed=seed + 1)) != (train, validation)


def test_training_identities_are_classes_and_others_are_not(write_people: WriteFolder) -> None:
    splits = read_splits(write_people(EIGHT))
    faces = [splits.train.target(i) for i in range(len(splits.train))]
    names = sorted({face.identity for face in faces})
    assert [face.label for face in faces] == [names.index(face.identity) for face in faces]
    assert splits.train.identities == len(names) == 6
    assert {splits.validation.target(i).label for i in range(len(splits.validation))} == {-1}


def test_an_existing_split_that_shares_identities_is_refused_and_names_them(
    write_people: WriteFolder,
) -> None:
    counts = {f"train/{n}": 2 for n in "abcdefgh"} | {f"val/{n}": 2 for n in "cdefghx"}
    root = write_people(counts)
    with pytest.raises(DataError, match="6 identities are in training and in validation: c, d, e"):
        read_splits(root)
    with pytest.raises(DataError, match="f, g and 1 more"):
        FaceEmbedding().read(root)


def test_an_existing_split_without_common_identities_is_kept(write_people: WriteFolder) -> None:
    root = write_people(
        {"train/a": 2, "train/b": 2, "val/c": 2, "val/d": 2, "test/a": 2, "test/e": 1}
    )
    splits = read_splits(root)
    assert parts(splits) == ({"a", "b"}, {"c", "d"})
    assert splits.facts["validation from"] == "the dataset's validation split"
    assert splits.facts["test images, not used"] == 3
    found = read_evaluation(root)
    assert people_of(found.samples) == {"a", "e"}  # any identity may be evaluated
    assert (found.split, found.subjects) == ("test", "identities")
    assert found.warnings == (
        "identities with only one evaluated image, which are only compared with others: e",
    )


def test_identities_are_the_subjects_of_samples(write_people: WriteFolder) -> None:
    samples = read_evaluation(write_people({"a": 2, "b": 1})).samples
    assert [samples.subject(i) for i in range(3)] == ["a", "a", "b"]
    assert samples.subset([2]).subject(0) == "b"


def test_people_with_one_image_stay_in_training(write_people: WriteFolder) -> None:
    root = write_people({f"s{i}": 1 for i in range(30)} | {"a": 2, "b": 2, "c": 2})
    train, validation = parts(read_splits(root, validation=0.5))
    assert validation <= {"a", "b", "c"}
    assert len(train) == 30


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"a": 5}, "1 identities, 1 of them with two or more images"),
        ({"a": 5, "b": 5, "c": 5}, "3 identities"),
        ({"a": 1, "b": 1, "c": 1, "d": 1}, "0 of them with two"),
        ({"train/a": 3, "val/b": 2, "val/c": 2}, "at least two identities, not 1"),
        ({"train/a": 3, "train/b": 3, "val/c": 5}, "validation split has 5 images of 1 ident"),
        ({"train/a": 3, "train/b": 3, "val/c": 1, "val/d": 1}, "2 images of 2 identities"),
    ],
)
def test_too_few_identities_are_refused_with_an_explanation(
    write_people: WriteFolder, counts: dict[str, int], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        read_splits(write_people(counts))


def test_a_fraction_outside_of_zero_and_one_is_refused(write_people: WriteFolder) -> None:
    with pytest.raises(OptionError, match=r"validation=1\.5"):
        read_splits(write_people(EIGHT), validation=1.5)


def test_a_dataset_without_pairs_of_one_identity_is_not_evaluated(
    write_people: WriteFolder,
) -> None:
    with pytest.raises(DataError, match="the dataset has 2 images of 2 identities"):
        read_evaluation(write_people({"a": 1, "b": 1}))


def test_facts_name_nobody(write_people: WriteFolder) -> None:
    splits = read_splits(write_people({f"secret{i}": 2 for i in range(8)}))
    assert "secret" not in repr(splits.facts)


def test_identities_with_single_images_are_reported(write_people: WriteFolder) -> None:
    counts = {"train/a": 1, "train/b": 3, "val/c": 1, "val/d": 2}
    lines = " ".join(read_splits(write_people(counts)).warnings)
    assert "only one training image: a" in lines
    assert "only one validation image, which are only compared with others: c" in lines


# ---- targets ----


def test_a_target_is_who_it_shows_and_not_its_class() -> None:
    one, other = Face("ada", 3, label=7), Face("ada", 3, label=-1)
    assert one == other
    assert one != Face("bob", 3)
    assert repr(one) == "Face(identity='ada')"  # identical images of one person do not conflict


def test_indices_run_over_all_splits(write_people: WriteFolder) -> None:
    splits = read_splits(write_people({"train/a": 2, "train/b": 2, "val/c": 2, "val/d": 1}))
    numbers = [
        part.target(i).index for part in (splits.train, splits.validation) for i in range(len(part))
    ]
    assert numbers == list(range(7))


def test_a_subset_keeps_its_classes(write_people: WriteFolder) -> None:
    train = read_splits(write_people(EIGHT)).train
    some = train.subset([5, 0])
    assert some.identities == train.identities
    assert [some.target(i) for i in range(2)] == [train.target(5), train.target(0)]
    assert some.name(0) == train.name(5)
    assert some.content(1) == train.content(0)
    assert (some.load(0) == train.load(5)).all()


# ---- forms of data ----


def test_a_table_is_read(write_people: WriteFolder) -> None:
    root = write_people({"a": 2, "b": 2, "c": 2, "d": 2})
    rows = ["path,label,split"]
    rows += [f"{n}/{i}.png,{n},{'val' if n in 'cd' else 'train'}" for n in "abcd" for i in (1, 2)]
    (root / "faces.csv").write_text("\n".join(rows))
    assert parts(read_splits(root / "faces.csv")) == ({"a", "b"}, {"c", "d"})


def test_a_table_with_several_identities_an_image_is_refused(write_people: WriteFolder) -> None:
    root = write_people({"a": 2})
    (root / "faces.csv").write_text("path,labels\na/1.png,a|b\na/2.png,a\n")
    with pytest.raises(DataError, match=r"1\.png has 2 identities \(a, b\)"):
        find_dataset(root / "faces.csv")


@pytest.mark.parametrize("names", [["ada", "bob", "cem", "dor"], [0, 1, 2, 10]])
def test_a_dataset_is_read(names: Sequence[object]) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    splits = read_splits([(image, names[i // 3]) for i in range(12)])
    train, validation = parts(splits)
    assert train | validation == {str(name) for name in names}


def test_an_identity_of_another_kind_is_refused() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(
        DataError, match="item 0: an identity must be a name or a non-negative integer"
    ):
        read_splits([(image, 0.5)] * 4)


def test_a_pair_of_sets_is_training_and_validation(write_people: WriteFolder) -> None:
    first = write_people({"a": 2, "b": 2}, root="first")
    second = write_people({"c": 2, "d": 2}, root="second")
    assert parts(read_splits((first, second))) == ({"a", "b"}, {"c", "d"})
    with pytest.raises(DataError, match="not 3"):
        read_splits((first, second, second))


@pytest.mark.parametrize("data", ["nowhere", 7, None, []])
def test_objects_that_are_not_datasets_are_refused(data: object) -> None:
    with pytest.raises(DataError):
        read_splits(data)


def test_a_file_of_no_known_form_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("faces")
    with pytest.raises(DataError, match="one folder per identity"):
        read_splits(tmp_path / "notes.txt")


# ---- landmarks ----

COLUMNS = (
    "left_eye_x,left_eye_y,right_eye_x,right_eye_y,nose_x,nose_y,"
    "mouth_left_x,mouth_left_y,mouth_right_x,mouth_right_y"
)
POINTS = "3,4,7,4,5,6,3.5,8,6.5,8"


def test_landmarks_beside_the_images_align_them(write_people: WriteFolder) -> None:
    root = write_people({"a": 2, "b": 2, "c": 2, "d": 2})
    rows = [f"path,{COLUMNS}", *(f"{n}/{i}.png,{POINTS}" for n in "abcd" for i in (1, 2))]
    (root / "landmarks.csv").write_text("\n".join(rows))
    splits = read_splits(root)
    assert splits.facts["aligned by landmarks"] is True
    assert splits.train.load(0).shape == (112, 112, 3)
    assert splits.train.load(0, 1).shape == (112, 112, 1)
    assert FaceEmbedding().bind(splits.train).metadata()["aligned"] is True
    plain = read_splits(root, align=False)
    assert plain.train.load(0).shape == (12, 10, 3)
    assert FaceEmbedding().bind(plain.train).metadata()["aligned"] is False


def test_landmarks_in_the_table_align_its_images(write_people: WriteFolder) -> None:
    root = write_people({"a": 2, "b": 2, "c": 2, "d": 2})
    rows = [f"path,label,{COLUMNS}"]
    rows += [f"{n}/{i}.png,{n},{POINTS}" for n in "abcd" for i in (1, 2)]
    (root / "faces.csv").write_text("\n".join(rows))
    assert read_splits(root / "faces.csv").train.load(0).shape == (112, 112, 3)


@pytest.mark.parametrize(
    ("people", "written"),
    [
        ("abcd", "{name}\\{i}.png"),
        ("abcd", "./{name}/../{name}/{i}.png"),
        ("abcd", "{name}/%3{i}.png"),
        (tuple(unicodedata.normalize("NFD", f"{n}\u00e9") for n in "abcd"), "{composed}/{i}.png"),
        (tuple(f"{n}\u00e9" for n in "abcd"), "{decomposed}/{i}.png"),
    ],
    ids=["backslashes", "dots", "URL", "composed", "decomposed"],
)
def test_landmarks_find_their_images_in_other_spellings(
    write_people: WriteFolder, people: Sequence[str], written: str
) -> None:
    root = write_people(dict.fromkeys(people, 2))
    rows = [f"path,label,{COLUMNS}"]
    for name in people:
        forms = {"composed": "NFC", "decomposed": "NFD"}
        others = {key: unicodedata.normalize(form, name) for key, form in forms.items()}
        paths = [written.format(name=name, i=i, **others) for i in (1, 2)]
        rows += [f"{path},{name},{POINTS}" for path in paths]
    (root / "landmarks.csv").write_text("\n".join(rows))
    for data in (root, root / "landmarks.csv"):
        assert read_splits(data).facts["aligned by landmarks"] is True


def test_landmarks_are_found_in_a_folder_of_images_beside_their_table(
    write_people: WriteFolder,
) -> None:
    root = write_people({"a": 2, "b": 2, "c": 2, "d": 2})
    rows = [f"path,label,{COLUMNS}"]
    rows += [f"{n}/{i}.png,{n},{POINTS}" for n in "abcd" for i in (1, 2)]
    (root.parent / "table").mkdir()
    root.rename(root.parent / "table" / "images")
    table = root.parent / "table" / "faces.csv"
    table.write_text("\n".join(rows))
    assert read_splits(table).facts["aligned by landmarks"] is True


def test_images_without_landmarks_among_others_are_an_error(write_people: WriteFolder) -> None:
    root = write_people({"a": 2, "b": 2, "c": 2, "d": 2})
    (root / "landmarks.csv").write_text(f"path,{COLUMNS}\na/1.png,{POINTS}\n")
    with pytest.raises(DataError, match=r"7 images have no landmarks, such as .*2\.png; add them"):
        read_splits(root)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("path,left_eye_x\na/1.png,3\n", "lacks the column 'left_eye_y'"),
        (f"path,{COLUMNS}\na/1.png,3,4\n", "row 2: landmarks must be ten numbers"),
        (f"path,{COLUMNS}\na/1.png,{POINTS.replace('8', 'eight')}\n", "row 2"),
    ],
)
def test_a_malformed_landmark_table_is_refused(
    write_people: WriteFolder, table: str, words: str
) -> None:
    root = write_people(EIGHT)
    (root / "landmarks.csv").write_text(table)
    with pytest.raises(DataError, match=words):
        read_splits(root)


def test_degenerate_landmarks_name_their_image(write_people: WriteFolder) -> None:
    root = write_people({"a": 2, "b": 2, "c": 2, "d": 2})
    rows = [f"path,{COLUMNS}"]
    rows += [f"{n}/{i}.png,{','.join(['5'] * 10)}" for n in "abcd" for i in (1, 2)]
    (root / "landmarks.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=r"\.png: landmarks are all at the same point"):
        read_splits(root).train.load(0)


def test_images_of_other_sizes_than_the_landmarks_are_black_outside(tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    rows = [f"path,{COLUMNS}"]
    for name in "abcd":
        (folder / name).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (10, 12), "white").save(folder / name / f"{i}.png")
            rows.append(f"{name}/{i}.png,100,100,140,100,120,120,105,140,135,140")
    (folder / "landmarks.csv").write_text("\n".join(rows))
    assert read_splits(folder).train.load(0).max() == 0
