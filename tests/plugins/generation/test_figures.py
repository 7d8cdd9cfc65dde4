"""Runs draw grids of generated images from fixed seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import visiongraft
from visiongraft.plugins.generation.example import make_dataset
from visiongraft.plugins.generation.figures import interpolate, write_grid
from visiongraft.plugins.generation.task import Generation


def test_the_callback_draws_samples_and_interpolations(tmp_path: Path) -> None:
    visiongraft.fit(
        make_dataset(Path(), 8, seed=0),
        task=Generation("vae", latents=4, generator="mlp", features_size=32),
        backbone="generation/mlp_relu",
        weights=None,
        size=8,
        schedule="full",
        epochs=1,
        workers=0,
        device="cpu",
        callbacks=["samples"],
        out=tmp_path / "run",
    )
    for name in ("samples", "interpolations"):
        with Image.open(tmp_path / "run" / f"{name}.png") as figure:
            assert figure.size == (8 * 66 + 2, 4 * 66 + 2)


def test_it_warns_of_tasks_without_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    visiongraft.fit(
        [(image, i % 2) for i, image in enumerate(make_dataset(Path(), 8, seed=0))],
        task="classification",
        backbone="simple_cnn",
        weights=None,
        size=8,
        epochs=1,
        workers=0,
        device="cpu",
        callbacks=["samples"],
        out=tmp_path / "run",
    )
    assert "generates none" in caplog.text
    assert not (tmp_path / "run" / "samples.png").exists()


def test_ways_lead_from_one_latent_to_the_other_on_a_sphere() -> None:
    one, other = np.float32([2, 0, 0]), np.float32([0, 2, 0])
    way = interpolate(one, other, 5)
    assert np.allclose(way[[0, -1]], [one, other], atol=1e-6)
    assert np.allclose(np.linalg.norm(way, axis=1), 2, atol=1e-5)
    assert np.allclose(interpolate(one, one, 3), one)


def test_gray_images_stand_row_by_row(tmp_path: Path) -> None:
    images = np.stack([np.full((64, 64, 1), 10 * i, np.uint8) for i in range(3)])
    write_grid(tmp_path / "grid.png", images, columns=2)
    with Image.open(tmp_path / "grid.png") as figure:
        pixels = np.asarray(figure)
    assert pixels.shape == (134, 134, 3)
    assert [pixels[5, 5, 0], pixels[5, 70, 0], pixels[70, 5, 0], pixels[70, 70, 0]] == [
        0,
        10,
        20,
        255,
    ]
