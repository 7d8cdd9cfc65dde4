"""``show_batch`` shows augmented training images with their labels, as a run would see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import visiongraft
from visiongraft.errors import OptionError

SETTINGS: dict[str, Any] = {
    "task": "classification",
    "backbone": "simple_cnn",
    "weights": None,
    "size": 32,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batch")
    rng = np.random.default_rng(0)
    for i in range(12):
        path = folder / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (50, 40, 3), dtype=np.uint8)).save(path)
    return folder


def test_a_grid_has_the_images_with_their_labels(data: Path) -> None:
    state = torch.get_rng_state()
    grid = visiongraft.show_batch(data, count=5, **SETTINGS)
    assert grid.size == (4 * 160, 2 * (160 + 18))
    assert torch.equal(torch.get_rng_state(), state)
    captions = np.asarray(grid.convert("L"))[160:178, :640]
    assert all((captions[:, x : x + 160] < 100).any() for x in range(0, 640, 160))


def test_it_is_the_same_again_and_differs_by_epoch(data: Path) -> None:
    first, again = (visiongraft.show_batch(data, **SETTINGS) for _ in range(2))
    later = visiongraft.show_batch(data, epoch=1, **SETTINGS)
    assert np.array_equal(np.asarray(first), np.asarray(again))
    assert not np.array_equal(np.asarray(first), np.asarray(later))


def test_settings_of_training_are_refused(data: Path) -> None:
    with pytest.raises(OptionError, match="epochs"):
        visiongraft.show_batch(data, epochs=3)
