"""Pairs are found side by side in one file or by name in two folders; what has no counterpart is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.plugins.translation.conftest import WriteImages
from visiongraft.data.samples import Samples
from visiongraft.errors import DataError
from visiongraft.plugins.translation.data import read_evaluation, read_splits
from visiongraft.plugins.translation.reading import read_pairs

SIZE = (6, 8)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def names(samples: Samples) -> list[str]:
    return [Path(samples.name(i)).stem for i in range(len(samples))]


@pytest.mark.parametrize("reverse", [False, True])
def test_halves_of_an_image_are_input_and_target(write_images: WriteImages, reverse: bool) -> None:
    root = write_images({"train/a.png": (5, 8), "val/b.png": (6, 10)})
    splits = read_splits(root, reverse=reverse)
    whole = pixels(root / "train" / "a.png")
    halves = [whole[:, :4], whole[:, 4:]]
    assert np.array_equal(splits.train.load(0), halves[reverse])
    assert np.array_equal(splits.train.target(0), halves[not reverse])
    assert (names(splits.train), names(splits.validation)) == (["a"], ["b"])
    assert splits.train.subset([0]).problem(0, 5, 4) == ""


def test_reading_halves_is_told(
    write_images: WriteImages, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_images({"a.png": (5, 8), "b.png": (6, 10)})
    with caplog.at_level("INFO"):
        read_pairs(root, reverse=True)
    assert f"2 images of {root} are read as pairs side by side" in caplog.text
    assert "target on the left, input on the right" in caplog.text


def test_an_image_of_odd_width_has_no_halves(write_images: WriteImages) -> None:
    samples = read_pairs(write_images({"a.png": (5, 9)}))["train"]
    with pytest.raises(
        DataError, match=r"a\.png: is 9 pixels wide, so it does not hold two images"
    ):
        samples.load(0)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "form",
    [
        "train/A/{}.png train/B/{}.jpg test/A/{}.png test/B/{}.jpg",
        "A/train/{}.png B/train/{}.jpg A/test/{}.png B/test/{}.jpg",
        "trainA/{}.png trainB/{}.jpg testA/{}.png testB/{}.jpg",
        "train/input/{}.png train/target/{}.jpg test/input/{}.png test/target/{}.jpg",
        "inner/train/a/{}.png inner/train/b/{}.jpg inner/test/a/{}.png inner/test/b/{}.jpg",
    ],
)
def test_two_folders_are_paired_by_name_in_every_layout(
    write_images: WriteImages, form: str, reverse: bool
) -> None:
    first, second, third, fourth = form.split()
    paths = [pattern.format(name) for pattern in (first, second) for name in ("x", "y")]
    root = write_images(dict.fromkeys([*paths, third.format("z"), fourth.format("z")], SIZE))
    found = read_pairs(root, reverse)
    assert {split: names(samples) for split, samples in found.items()} == {
        "train": ["x", "y"],
        "test": ["z"],
    }
    kinds = [Path(found["train"].name(1)).suffix, found["train"].target(1).suffix]
    assert kinds == ([".jpg", ".png"] if reverse else [".png", ".jpg"])


def test_images_without_counterparts_are_counted_and_named(write_images: WriteImages) -> None:
    root = write_images(
        dict.fromkeys(["A/x.png", "A/y.png", "A/z.png", "B/x.png", "B/q.png"], SIZE)
    )
    with pytest.raises(DataError, match=r"2 of .*A \(y, z\) and 1 of .*B \(q\)") as caught:
        read_pairs(root)
    assert "\n" not in str(caught.value)


def test_one_folder_of_two_is_not_read_as_images_with_halves(write_images: WriteImages) -> None:
    with pytest.raises(DataError, match="contains a folder 'a' but none called 'b'"):
        read_pairs(write_images({"A/x.png": SIZE}))


def test_two_images_of_one_name_are_refused(write_images: WriteImages) -> None:
    root = write_images(dict.fromkeys(["A/x.png", "A/x.jpg", "B/x.png"], SIZE))
    with pytest.raises(DataError, match=r"contains both x\.\w+ and x\.\w+"):
        read_pairs(root)


def test_a_target_of_another_size_is_a_problem_of_its_sample(write_images: WriteImages) -> None:
    splits = read_splits(
        write_images({"A/x.png": SIZE, "A/y.png": SIZE, "B/x.png": SIZE, "B/y.png": (6, 9)}),
        reverse=False,
        validation=0.5,
    )
    found = [s.problem(0, *SIZE) for s in (splits.train, splits.validation)]
    (problem,) = [text for text in found if text]
    assert problem.endswith("y.png: has 6x9 pixels, but its image has 6x8")


@pytest.mark.parametrize("reverse", [False, True])
def test_pairs_in_memory_are_read(reverse: bool) -> None:
    pair = [np.zeros((4, 5, 3), np.uint8), np.ones((4, 5, 3))]
    splits = read_splits([pair] * 4, reverse=reverse)
    assert splits.train.load(0).max() == (255 if reverse else 0)
    assert splits.train.target(0).max() == (0 if reverse else 255)
    assert (len(splits.train), len(splits.validation)) == (3, 1)


def test_the_test_split_is_evaluated_on(write_images: WriteImages) -> None:
    root = write_images({"train/a.png": SIZE, "val/b.png": SIZE, "test/c.png": SIZE})
    found = read_evaluation(root, reverse=False)
    assert (names(found.samples), found.split) == (["c"], "test")
    of_pair = read_evaluation((root / "train", root / "val"), reverse=False)
    assert names(of_pair.samples) == ["b"]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [({}, "contains no images"), ({"test/x.png": SIZE}, "no training images, only test")],
)
def test_a_folder_without_pairs_is_refused(
    write_images: WriteImages, sizes: dict[str, tuple[int, int]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_splits(write_images(sizes), reverse=False)
