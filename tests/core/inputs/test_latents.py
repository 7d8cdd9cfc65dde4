"""Latents are drawn alike everywhere, and are what a file of a generator takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from visiongraft.errors import DataError, OptionError
from visiongraft.inputs import IMAGES, Latents, described_inputs
from visiongraft.preprocess import Preprocess, PreprocessConfig


def test_equal_seeds_draw_equal_latents_however_many() -> None:
    latents = Latents(5)
    drawn = latents.draw(3, seed=7)
    assert drawn.dtype == np.float32
    assert np.array_equal(drawn[:2], latents.draw(2, seed=7))
    assert not np.array_equal(drawn, latents.draw(3, seed=8))


def test_images_are_not_drawn() -> None:
    with pytest.raises(OptionError, match="images are not drawn at random"):
        IMAGES.draw(3)


@pytest.mark.parametrize("value", [[1.0, 2.0], "text", [1.0, float("nan"), 0.0], None])
def test_what_is_no_latent_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match=r"^z: a latent must be 3 finite numbers$"):
        Latents(3).array(value, "z")


def test_one_latent_and_several_are_told_apart() -> None:
    latents = Latents(3)
    drawn = latents.draw(2)
    assert len(list(latents.each(drawn))) == 2
    assert len(list(latents.each(torch.from_numpy(drawn[0])))) == 1
    with pytest.raises(DataError, match="drawn, not read from files"):
        latents.each("latents.npy")


def test_the_network_gets_latents_as_they_are_and_images_to_train_on_prepared() -> None:
    config = PreprocessConfig((4, 4))
    preprocess = Preprocess(config, Latents(3))
    drawn = torch.from_numpy(Latents(3).draw(2))
    assert torch.equal(preprocess(drawn), drawn)
    images = torch.zeros(2, 9, 7, 3, dtype=torch.uint8)
    assert torch.equal(preprocess(images), Preprocess(config)(images))


def test_trials_are_latents_of_generated_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 1), np.uint8)
    batch = Latents(5).from_images(images)
    assert batch.shape == (2, 5)
    assert (np.abs(batch) <= 2).all()
    assert np.array_equal(batch * 64 + 128, images.reshape(2, -1)[:, [0, 2, 4, 7, 9]])


def test_a_file_describes_its_latents() -> None:
    entry = {"layout": "ND", **Latents(5).describe()}
    assert described_inputs(entry) == Latents(5)
    assert described_inputs({"layout": "ND", "length": 0}) is None
