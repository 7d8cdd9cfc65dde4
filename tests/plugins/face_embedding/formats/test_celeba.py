"""Reading CelebA's official files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visiongraft.errors import DataError
from visiongraft.lookup.reading import read_data
from visiongraft.plugins.face_embedding.data import read_evaluation, read_splits
from visiongraft.plugins.face_embedding.formats.celeba import CelebaAttributes

Write = Callable[..., Path]
IDENTITIES = (11, 11, 12, 12, 21, 21, 22, 22, 31, 31, 32)
PARTS = (0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2)


@pytest.fixture
def celeba(tmp_path: Path) -> Write:
    def write(anno: str = "", evaluation: str = "", img: str = "") -> Path:
        for folder in (anno, evaluation, img):
            (tmp_path / folder).mkdir(exist_ok=True)
        names = [f"{i:06d}.jpg" for i in range(1, len(IDENTITIES) + 1)]
        images = tmp_path / img / "img_align_celeba"
        images.mkdir()
        for i, name in enumerate(names):
            Image.fromarray(np.full((22, 18, 3), 20 * i, np.uint8)).save(images / name)
        lines = [f"{n} {k}\n" for n, k in zip(names, IDENTITIES, strict=True)]
        (tmp_path / anno / "identity_CelebA.txt").write_text("".join(lines))
        lines = [f"{n} {p}\n" for n, p in zip(names, PARTS, strict=True)]
        (tmp_path / evaluation / "list_eval_partition.txt").write_text("".join(lines))
        rows = [f"{n}  {1 if i % 2 else -1}  {-1 if i % 3 else 1}\n" for i, n in enumerate(names)]
        head = f"{len(names)}\nSmiling Bald \n"
        (tmp_path / anno / "list_attr_celeba.txt").write_text(head + "".join(rows))
        return tmp_path

    return write


@pytest.mark.parametrize("folders", [{}, {"anno": "Anno", "evaluation": "Eval", "img": "Img"}])
def test_identities_and_partition_are_read(celeba: Write, folders: dict[str, str]) -> None:
    root = celeba(**folders)
    splits = read_splits(root)
    assert splits.train.counts() == {"11": 2, "12": 2}
    assert splits.validation.counts() == {"21": 2, "22": 2}
    assert read_evaluation(root).samples.counts() == {"31": 2, "32": 1}
    assert splits.train.load(1).shape == (22, 18, 3)


def test_without_a_partition_identities_are_held_out(celeba: Write) -> None:
    root = celeba()
    (root / "list_eval_partition.txt").unlink()
    splits = read_splits(root)
    assert len(splits.train.counts()) + len(splits.validation.counts()) == 6


def test_a_partition_that_shares_identities_is_an_error(celeba: Write) -> None:
    root = celeba()
    table = root / "list_eval_partition.txt"
    table.write_text(table.read_text().replace("000002.jpg 0", "000002.jpg 1"))
    with pytest.raises(DataError, match="1 identities are in training and in validation: 11"):
        read_splits(root)


def test_the_landmarks_of_the_images_align_them(celeba: Write) -> None:
    root = celeba()
    names = [f"{i:06d}.jpg" for i in range(1, len(IDENTITIES) + 1)]
    rows = [f"{n} 5 8 12 8 9 12 6 16 11 16\n" for n in names]
    text = f"{len(names)}\nlefteye_x lefteye_y righteye_x\n" + "".join(rows)
    (root / "list_landmarks_align_celeba.txt").write_text(text)
    assert read_splits(root).train.load(0).shape == (112, 112, 3)
    assert read_splits(root, align=False).train.load(0).shape == (22, 18, 3)
    (root / "list_landmarks_align_celeba.txt").write_text(text.replace(" 16 11", " x 11"))
    with pytest.raises(DataError, match="is malformed"):
        read_splits(root)
    (root / "list_landmarks_align_celeba.txt").write_text(
        text.replace(" 16 11", f" {'x' * 5000} 11")
    )
    with pytest.raises(DataError, match="is malformed: could not convert") as error:
        read_splits(root)
    assert len(str(error.value)) < 1000


def test_an_image_that_is_listed_twice_is_used_once_and_must_have_one_identity(
    celeba: Write,
) -> None:
    root = celeba()
    table = root / "identity_CelebA.txt"
    table.write_text(table.read_text() + "000001.jpg 11\n")
    assert read_splits(root).train.counts() == {"11": 2, "12": 2}
    table.write_text(table.read_text() + "000001.jpg 12\n")
    with pytest.raises(DataError, match=r"000001\.jpg is listed twice, with different values"):
        read_splits(root)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda root: (root / "img_align_celeba").rename(root / "elsewhere"),
            "lacks CelebA's img_",
        ),
        (
            lambda root: (root / "identity_CelebA.txt").write_text("000001.jpg\n"),
            "line 1: 0 values",
        ),
        (
            lambda root: (root / "list_eval_partition.txt").write_text("000001.jpg 7\n"),
            "split '7' of",
        ),
    ],
)
def test_missing_and_malformed_files_are_refused(
    celeba: Write, change: Callable[[Path], object], words: str
) -> None:
    root = celeba()
    change(root)
    with pytest.raises(DataError, match=words):
        read_splits(root)


def test_attributes_are_labels_for_multi_label_tasks(celeba: Write) -> None:
    root = celeba()
    found = read_data(f"celeba_attributes:{root}", "labels")
    assert found is not None
    assert found.names == ("Bald", "Smiling")
    assert {part: len(samples) for part, samples in found.splits.items()} == {
        "train": 4,
        "validation": 4,
        "test": 3,
    }
    train = found.splits["train"]
    assert [train.target(i) for i in range(4)] == [("Bald",), ("Smiling",), (), ("Smiling", "Bald")]
    assert not CelebaAttributes().claims(str(root))  # a folder alone is meant by its identities


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("1\n", "no line with the attribute names"),
        ("1\nA B\n000001.jpg 1\n", "line 3: 1 values after"),
    ],
)
def test_a_malformed_attribute_table_is_refused(celeba: Write, table: str, words: str) -> None:
    root = celeba()
    (root / "list_attr_celeba.txt").write_text(table)
    with pytest.raises(DataError, match=words):
        CelebaAttributes().read(root)


def test_an_image_that_is_listed_twice_counts_once_and_is_named(celeba: Write) -> None:
    root = celeba()
    table = root / "identity_CelebA.txt"
    table.write_text(table.read_text() + "000001.jpg 11\n")
    splits = read_splits(root)
    assert splits.train.counts() == {"11": 2, "12": 2}
    assert "lists 1 images more than once; each counts once: 000001.jpg" in splits.warnings[0]


@pytest.mark.parametrize("name", ["identity_CelebA.txt", "list_attr_celeba.txt"])
def test_an_image_with_two_identities_or_attributes_is_refused(celeba: Write, name: str) -> None:
    root = celeba()
    row = "000001.jpg 12\n" if name == "identity_CelebA.txt" else "000001.jpg 1 -1\n"
    (root / name).write_text((root / name).read_text() + row)
    with pytest.raises(
        DataError, match=f"{name}: 000001.jpg is listed twice, with different values"
    ):
        read_splits(root) if name == "identity_CelebA.txt" else CelebaAttributes().read(root)


def test_images_without_a_split_or_a_file_are_counted(celeba: Write) -> None:
    root = celeba()
    table = root / "list_eval_partition.txt"
    table.write_text(table.read_text().replace("000003.jpg 0\n", ""))
    (root / "img_align_celeba" / "000002.jpg").unlink()
    warnings = read_splits(root).warnings
    assert any("lists 1 images that do not exist" in line for line in warnings)
    assert any("lacks 1 images, which are used for training: 000003.jpg" in w for w in warnings)
