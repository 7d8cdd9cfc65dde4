"""Images of two kinds are found without pairs, and each of the other kind is a target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from tests.plugins.translation.conftest import WriteImages
from visiongraft.data.samples import Samples
from visiongraft.errors import DataError
from visiongraft.plugins.translation.task import Translation
from visiongraft.plugins.translation.transforms import UnpairedTransform
from visiongraft.plugins.translation.unpaired.data import (
    UnpairedImages,
    read_evaluation,
    read_splits,
)
from visiongraft.plugins.translation.unpaired.task import UnpairedTranslation

SIZE = (6, 8)


def names(samples: Samples) -> list[str]:
    return [Path(samples.name(i)).stem for i in range(len(samples))]


def others(samples: Samples) -> list[list[str]]:
    assert isinstance(samples, UnpairedImages)
    return [[Path(samples.others.name(i)).stem for i in share] for share in samples.shares]


@pytest.mark.parametrize(
    "form",
    [
        "trainA/{} trainB/{} testA/{} testB/{}",
        "train/A/{} train/B/{} test/A/{} test/B/{}",
        "A/train/{} B/train/{} A/test/{} B/test/{}",
        "inner/trainA/{} inner/trainB/{} inner/testA/{} inner/testB/{}",
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_every_layout_is_read_in_both_directions(
    write_images: WriteImages, form: str, reverse: bool
) -> None:
    a, b, test_a, test_b = form.split()
    first = [a.format(f"p{i}.png") for i in range(4)]
    second = [b.format(f"q{i}.png") for i in range(4)]
    root = write_images(
        dict.fromkeys([*first, *second, test_a.format("r.png"), test_b.format("s.jpg")], SIZE)
    )
    splits = read_splits(root, reverse=reverse, validation=0.25)
    assert sorted([*names(splits.train), *names(splits.validation)]) == [
        f"{'q' if reverse else 'p'}{i}" for i in range(4)
    ]
    assert len(splits.train) == 3
    found = read_evaluation(root, reverse=reverse)
    assert (names(found.samples), found.split) == (["s" if reverse else "r"], "test")
    assert others(found.samples) == [["r" if reverse else "s"]]


@pytest.mark.parametrize(
    ("inputs", "targets", "expected"),
    [
        (3, 3, [(0,), (1,), (2,)]),
        (2, 5, [(0, 2, 4), (1, 3)]),
        (5, 2, [(0,), (1,), (0,), (1,), (0,)]),
    ],
)
def test_every_image_of_the_other_kind_is_a_target(
    inputs: int, targets: int, expected: list[tuple[int, ...]]
) -> None:
    kinds = {"a": images(inputs), "b": images(targets)}
    found = read_evaluation(kinds, reverse=False).samples
    assert isinstance(found, UnpairedImages)
    assert list(found.shares) == expected
    assert [[int(image.max()) for image in found.target(i)] for i in range(inputs)] == [
        [*share] for share in expected
    ]
    assert found.subset([inputs - 1]).shares == (expected[-1],)


def images(count: int) -> list[np.ndarray]:
    return [np.full((5, 4, 3), i, np.uint8) for i in range(count)]


def test_augmentation_changes_an_image_and_one_of_its_targets_each_by_itself() -> None:
    torch.manual_seed(0)
    image = tv_tensors.Image(torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8).expand(3, 8, 8))
    targets = [np.full((6, 9, 3), value, np.uint8) for value in (10, 20)]
    seen, regions = set(), set()
    for _ in range(20):
        one, (target,) = UnpairedTransform((16, 24), flip=True)(image, targets)
        assert one.shape == (3, 16, 24) and target.shape == (16, 24, 3)
        seen |= set(target.unique().tolist())
        regions.add(one.float().mean().item())
    assert seen == {10, 20} and len(regions) > 5


def test_a_target_that_is_no_image_is_a_problem_of_its_sample(write_images: WriteImages) -> None:
    root = write_images(dict.fromkeys(["A/x.png", "A/y.png", "B/p.png", "B/q.png"], SIZE))
    (root / "B" / "q.png").write_text("no image")
    samples = read_evaluation(root, reverse=False).samples
    assert [bool(samples.problem(i, *SIZE)) for i in range(2)] == [False, True]
    assert "q.png" in samples.problem(1, *SIZE)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["x.png"], "contains no folders A and B of images"),
        (["A/x.png"], "contains a folder 'a' but none called 'b'"),
        (["trainA/x.png", "trainB/notes"], "trainB contains no images"),
        (["A/train/x.png", "B/test/x.png"], "images for train in folder A, but none in folder B"),
        (["testA/x.png", "testB/x.png"], "no training images, only test"),
    ],
)
def test_folders_without_two_kinds_are_refused_in_one_line(
    write_images: WriteImages, files: list[str], message: str
) -> None:
    root = write_images(dict.fromkeys([f for f in files if f.endswith("png")], SIZE))
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    with pytest.raises(DataError, match=message) as caught:
        read_splits(root, reverse=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [7, None, [], {"a": []}, {"a": [], "b": []}, {"x": 1, "b": 2}])
def test_other_data_are_refused(data: Any) -> None:
    with pytest.raises(DataError):
        read_splits(data, reverse=False)


def test_names_without_counterparts_are_for_the_user_to_decide_about(
    write_images: WriteImages,
) -> None:
    root = write_images(dict.fromkeys(["A/x.png", "A/y.png", "B/p.png", "B/q.png"], SIZE))
    assert not UnpairedTranslation().claims(root)
    with pytest.raises(DataError, match="or use task 'unpaired_translation', which needs no pairs"):
        Translation().read(root)
