"""Rounding errors pass and faults do not, on masks derived from photographs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor
from torch.nn import functional as F

from visiongraft.plugins.segmentation.compare import compare_masks
from visiongraft.plugins.segmentation.task import Segmentation
from visiongraft.task import Arrays, Disagreement
from visiongraft.training.evaluation import to_arrays

TOLERANCE = 1e-4  # of the exporters
KINDS = ("multi_class", "binary", "multi_label")
Sizes = Tensor


def small_logits(photo: np.ndarray, kind: str) -> Tensor:
    """Return logits at a quarter of a photograph's size that follow its colors."""
    pixels = torch.tensor(photo).permute(2, 0, 1)[None].float() / 255
    height, width = photo.shape[0] // 4, photo.shape[1] // 4
    coarse = F.interpolate(pixels, size=(height, width), mode="bilinear", antialias=True)
    logits = 12 * (coarse - coarse.mean((2, 3), keepdim=True))
    logits = torch.cat([logits, 0.3 * logits.flip(1) + 0.4], 1)
    return logits[:, :1] if kind == "binary" else logits


def task(kind: str) -> Segmentation:
    class_names = ("a", "b") if kind == "binary" else ("a", "b", "c", "d", "e", "f")
    return Segmentation(class_names=class_names, kind=kind, probabilities=False)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["chelsea", "coffee", "astronaut"])
def photo(request: pytest.FixtureRequest) -> np.ndarray:
    found: np.ndarray = getattr(skimage.data, request.param)()
    return found


def enlarged(logits: Tensor, photo: np.ndarray) -> Tensor:
    return F.interpolate(logits, size=photo.shape[:2], mode="bilinear", align_corners=False)


def decoded(logits: Tensor, kind: str) -> Arrays:
    return to_arrays(task(kind).decode({"logits": logits}, torch.ones(len(logits), 2)))


def fails(found: Disagreement) -> bool:
    return found.mismatches > 0 or not found.difference <= TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-5])
def test_rounding_errors_pass_although_they_move_borders(
    photo: np.ndarray, kind: str, noise: float
) -> None:
    logits = enlarged(small_logits(photo, kind), photo)
    torch.manual_seed(0)
    other = logits + noise * torch.randn_like(logits)
    found = compare_masks(decoded(logits, kind), decoded(other, kind))
    assert not fails(found), found


def shifted(logits: Tensor, photo: np.ndarray) -> Tensor:
    return enlarged(logits, photo).roll(1, -1)


def swapped(logits: Tensor, photo: np.ndarray) -> Tensor:
    return enlarged(logits, photo)[:, [1, 0, *range(2, logits.shape[1])]]


def nearest(logits: Tensor, photo: np.ndarray) -> Tensor:
    return F.interpolate(logits, size=photo.shape[:2], mode="nearest-exact")


def other_corners(logits: Tensor, photo: np.ndarray) -> Tensor:
    return F.interpolate(logits, size=photo.shape[:2], mode="bilinear", align_corners=True)


def bicubic(logits: Tensor, photo: np.ndarray) -> Tensor:
    return F.interpolate(logits, size=photo.shape[:2], mode="bicubic", align_corners=False)


def one_row_smaller(logits: Tensor, photo: np.ndarray) -> Tensor:
    return enlarged(logits, photo)[:, :, :-1]


def classes_on_small_grid(logits: Tensor, photo: np.ndarray) -> Tensor:
    """The most probable class first, and then the resize."""
    sure = 20.0 * F.one_hot(logits.argmax(1), logits.shape[1]).permute(0, 3, 1, 2)
    return enlarged(sure, photo)


def wrong_corner(logits: Tensor, photo: np.ndarray) -> Tensor:
    """A transformer window that attends to others: one region is slightly wrong."""
    found = enlarged(logits, photo).clone()
    found[:, :, :28, :28] += 0.05 * torch.arange(logits.shape[1])[:, None, None]
    return found


FAULTS = [shifted, swapped, nearest, other_corners, bicubic, one_row_smaller, wrong_corner]


@pytest.mark.parametrize("fault", [*FAULTS, classes_on_small_grid], ids=lambda f: f.__name__)
def test_faults_are_caught(
    photo: np.ndarray, fault: Callable[[Tensor, np.ndarray], Tensor]
) -> None:
    logits = small_logits(photo, "multi_class")
    reference = decoded(enlarged(logits, photo), "multi_class")
    found = compare_masks(reference, decoded(fault(logits, photo), "multi_class"))
    assert fails(found), found


@pytest.mark.parametrize("kind", ["binary", "multi_label"])
@pytest.mark.parametrize("fault", [shifted, nearest, other_corners], ids=lambda f: f.__name__)
def test_faults_in_other_kinds_of_masks_are_caught(
    photo: np.ndarray, kind: str, fault: Callable[[Tensor, np.ndarray], Tensor]
) -> None:
    logits = small_logits(photo, kind)
    reference = decoded(enlarged(logits, photo), kind)
    assert fails(compare_masks(reference, decoded(fault(logits, photo), kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_faults_are_caught_in_labels_alone(photo: np.ndarray, kind: str) -> None:
    """Even with correct margins, classes that are shifted by a pixel or swapped are mismatches."""
    reference = decoded(enlarged(small_logits(photo, kind), photo), kind)
    labels = reference["labels"]
    for wrong in (np.roll(labels, 1, -1), np.roll(labels, 1, -2), 1 - np.minimum(labels, 1)):
        assert compare_masks(reference, {**reference, "labels": wrong}).mismatches > 100


def test_a_few_near_ties_are_tolerated_and_many_are_not() -> None:
    zeros, margins = np.zeros((1, 100, 100), np.uint8), np.full((1, 100, 100), 0.5, np.float32)
    margins[0, :2] = 5e-4
    labels = zeros.copy()
    labels[0, 0, :10] = 1  # 0.1 % of the pixels
    reference = {"labels": zeros, "margins": margins}
    assert compare_masks(reference, {"labels": labels, "margins": margins}).mismatches == 0
    labels[0, 0, 10] = 1
    assert compare_masks(reference, {"labels": labels, "margins": margins}).mismatches == 11
    labels[0, 0] = 0
    labels[0, 50, 50] = 1  # a single confident pixel
    assert compare_masks(reference, {"labels": labels, "margins": margins}).mismatches == 1
    # A single pixel that is a tie only in the candidate.
    tied = margins.copy()
    tied[0, 50, 50] = 0
    assert compare_masks(reference, {"labels": labels, "margins": tied}).mismatches == 1


def test_near_ties_are_counted_per_image() -> None:
    zeros, margins = np.zeros((2, 40, 50), np.uint8), np.zeros((2, 40, 50), np.float32)
    labels = zeros.copy()
    labels[0, 0, :3] = 1
    together = {"labels": zeros, "margins": margins}
    assert compare_masks(together, {"labels": labels, "margins": margins}).mismatches == 3


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_incompatible(value: float) -> None:
    good = {"labels": np.zeros((1, 2, 2), np.uint8), "margins": np.ones((1, 2, 2), np.float32)}
    bad = {**good, "margins": np.full((1, 2, 2), value, np.float32)}
    for one, other in ((good, bad), (bad, good), (bad, bad)):
        assert compare_masks(one, other).difference == np.inf


def test_other_names_types_and_shapes_are_incompatible() -> None:
    good = {"labels": np.zeros((1, 2, 2), np.uint8), "margins": np.ones((1, 2, 2), np.float32)}
    for bad in (
        {"labels": good["labels"]},
        {**good, "labels": good["labels"].astype(np.float32)},
        {**good, "margins": good["margins"][:, :1]},
    ):
        assert compare_masks(good, bad).difference == np.inf
    nothing = {name: values[:0] for name, values in good.items()}
    assert compare_masks(nothing, nothing) == Disagreement(0.0, 0)


def test_an_outlier_has_little_weight_among_many_pixels() -> None:
    for side, expected in ((100, 1e-4), (20, 1e-2)):
        labels, margins = np.zeros((1, side, side), np.uint8), np.ones((1, side, side))
        other = margins.copy()
        other[0, 3, 3] -= 1e-2
        found = compare_masks(
            {"labels": labels, "margins": margins}, {"labels": labels, "margins": other}
        )
        assert found.difference == pytest.approx(expected)
