"""Five-point alignment: the least-squares fit, the warp, and tables of landmarks."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from skimage.transform import SimilarityTransform, warp

from visiongraft.errors import DataError
from visiongraft.plugins.face_embedding.alignment.landmarks import (
    TEMPLATE,
    align,
    similarity_transform,
)


def moved(points: np.ndarray, angle: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    matrix = SimilarityTransform(scale=scale, rotation=angle, translation=shift)
    return matrix(points)


@pytest.mark.parametrize(("angle", "scale", "shift"), [(0.3, 2.0, (5, -8)), (-2.5, 0.4, (100, 3))])
def test_a_similarity_is_found_exactly(angle: float, scale: float, shift: tuple[float, float]):
    source = moved(TEMPLATE, angle, scale, shift)
    matrix = similarity_transform(source, TEMPLATE)
    back = source @ matrix[:, :2].T + matrix[:, 2]
    assert np.allclose(back, TEMPLATE, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_points_that_do_not_fit_are_fitted_as_scikit_image_does(seed: int) -> None:
    random = np.random.default_rng(seed)
    source = moved(TEMPLATE, 0.2, 1.5, (4, 4)) + random.normal(0, 4, (5, 2))
    expected = SimilarityTransform.from_estimate(source, TEMPLATE).params[:2]
    assert np.allclose(similarity_transform(source, TEMPLATE), expected)


def test_a_mirror_image_is_never_taken() -> None:
    mirrored = TEMPLATE * [-1, 1]
    matrix = similarity_transform(mirrored, TEMPLATE)[:, :2]
    assert np.linalg.det(matrix) > 0


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.zeros((5, 2)), "all at the same point"),
        (np.full((5, 2), np.nan), "not finite"),
        (np.zeros((4, 2)), "five points"),
    ],
)
def test_degenerate_points_are_refused(points: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        align(np.zeros((50, 50, 3), np.uint8), points)


def test_an_aligned_image_is_what_scikit_image_warps() -> None:
    image = skimage.data.astronaut()
    points = moved(TEMPLATE, 0.15, 1.2, (150, 50))
    inverse = np.linalg.inv(np.vstack([similarity_transform(points, TEMPLATE), [0, 0, 1]]))
    expected = warp(image, inverse, output_shape=(112, 112), order=1, preserve_range=True)
    found = align(image, points)
    assert found.shape == (112, 112, 3)
    inner = np.s_[2:-2, 2:-2]
    assert np.abs(found[inner].astype(float) - expected[inner]).max() <= 2


def test_an_aligned_image_stays_as_it_is() -> None:
    image = skimage.data.astronaut()[:112, 150:262]
    assert np.abs(align(image, TEMPLATE)[1:-1, 1:-1].astype(int) - image[1:-1, 1:-1]).max() <= 1


def test_a_wrong_center_of_pixels_would_be_noticed() -> None:
    image = skimage.data.astronaut()[:112, 150:262]
    assert (
        np.abs(align(image, TEMPLATE + 0.5)[1:-1, 1:-1].astype(int) - image[1:-1, 1:-1]).max() > 9
    )


def test_a_large_face_is_averaged_and_not_skipped_over() -> None:
    """A face 8 times as large, striped by single pixels, becomes an even gray."""
    image = np.zeros((900, 900, 3), np.uint8)
    image[:, ::2] = 255
    found = align(image, TEMPLATE * 8)
    assert np.abs(found[4:-4, 4:-4].astype(int) - 127).max() <= 2


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_number_of_channels_and_any_side(channels: int) -> None:
    image = np.full((60, 70, channels), 90, np.uint8)
    found = align(image, TEMPLATE / 2 + 5, side=56)
    assert found.shape == (56, 56, channels)
    assert found[28, 28, 0] == 90
    assert align(image, (TEMPLATE * 4).ravel().tolist()).shape == (112, 112, channels)
