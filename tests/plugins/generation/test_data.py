"""Images are read from folders and datasets; latents take their place in evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visiongraft.errors import DataError
from visiongraft.inputs import Latents
from visiongraft.plugins.generation.data import DrawnSamples, read_evaluation, read_splits

LATENTS = Latents(3)


def write(folder: Path, names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        Image.new("RGB", (4, 5), (i, 0, 0)).save(folder / f"{name}.png")


def test_a_folder_is_split_at_random_but_always_alike(tmp_path: Path) -> None:
    write(tmp_path / "a", "abcde")
    write(tmp_path / "b", "vwxyz")
    splits = read_splits(tmp_path, LATENTS, 0.2, seed=0)
    assert (len(splits.train), len(splits.validation)) == (8, 2)
    again = read_splits(tmp_path, LATENTS, 0.2, seed=0)
    names = [[s.train.name(i) for i in range(8)] for s in (splits, again)]
    assert names[0] == names[1]


def test_folders_of_splits_are_kept(tmp_path: Path) -> None:
    for folder, names in (("train/x", "abc"), ("val/x", "de"), ("test", "f")):
        write(tmp_path / folder, names)
    splits = read_splits(tmp_path, LATENTS, 0.2, seed=0)
    assert (len(splits.train), len(splits.validation)) == (3, 2)
    found = read_evaluation(tmp_path, LATENTS)
    assert (len(found.samples), found.split) == (1, "test")


def test_a_pair_and_images_in_memory_are_read() -> None:
    images = [np.full((4, 4, 3), i, np.uint8) for i in range(4)]
    splits = read_splits((images, images[:2]), LATENTS, 0.2, seed=0)
    assert (len(splits.train), len(splits.validation)) == (4, 2)
    assert splits.train.target(0) is None


def test_a_latent_takes_the_place_of_each_image() -> None:
    images = [np.full((4, 4, 3), i, np.uint8) for i in range(3)]
    samples = read_evaluation(images, LATENTS).samples
    assert isinstance(samples, DrawnSamples)
    assert samples.target(2).max() == 2
    assert np.array_equal(samples.load(2), LATENTS.draw(1, seed=2)[0])
    assert np.array_equal(samples.subset([2]).load(0), samples.load(2))


def test_an_image_that_cannot_be_compared_with_is_named(tmp_path: Path) -> None:
    write(tmp_path, "ab")
    (tmp_path / "c.png").write_bytes(b"no image")
    samples = read_evaluation(tmp_path, LATENTS).samples
    assert samples.problem(0, 1, 3) == ""
    assert "c.png" in samples.problem(2, 1, 3)


@pytest.mark.parametrize("content", [None, "text", "empty"])
def test_what_holds_no_images_is_refused_in_one_line(tmp_path: Path, content: Any) -> None:
    data = tmp_path / "data"
    if content == "text":
        data.write_text("no image")
    if content == "empty":
        data.mkdir()
    with pytest.raises(DataError, match=r"data.*(does not exist|is not an image|no images)"):
        read_splits(data, LATENTS, 0.2, seed=0)


def test_one_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match="one image only"):
        read_splits([np.zeros((4, 4, 3), np.uint8)], LATENTS, 0.2, seed=0)
