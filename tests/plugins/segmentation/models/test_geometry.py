from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from visiongraft.plugins.dense.resizing import resize_bilinear
from visiongraft.plugins.segmentation.models.geometry import masks_at_input, resize_mask

SIDES = st.integers(1, 40)


@given(SIDES, SIDES, SIDES, SIDES)
def test_masks_are_resized_by_the_nearest_center(h: int, w: int, height: int, width: int) -> None:
    mask = torch.arange(h * w).view(h, w)
    expected = F.interpolate(mask[None, None].double(), size=(height, width), mode="nearest-exact")
    got = resize_mask(mask, (height, width))
    # Exact ties may fall to either side; PyTorch decides them in float32.
    differing = (got != expected[0, 0].long()).float().mean()
    assert differing < 0.1 or min(h, w) < 8
    assert set(got.unique().tolist()) <= set(mask.unique().tolist())


def test_resizing_does_not_shift_masks() -> None:
    """PyTorch's plain "nearest" moves masks to the right and down; ours must not."""
    columns = torch.arange(90)[None].expand(90, 90)
    small = resize_mask(columns, (24, 24))
    moved = F.interpolate(columns[None, None].float(), size=(24, 24), mode="nearest")
    assert abs(float(small.float().mean()) + 0.5 - 45) < 0.2
    assert abs(float(moved.mean()) + 0.5 - 45) > 1.5  # the planted fault


def test_stretched_masks_fill_the_input_and_padded_masks_keep_their_size() -> None:
    masks = [torch.ones(4, 6, dtype=torch.uint8), torch.zeros(8, 8, dtype=torch.uint8)]
    stretched = masks_at_input(masks, (8, 8), "stretch", 255)
    assert stretched.dtype == torch.int64 and stretched.shape == (2, 8, 8)
    assert stretched[0].min() == 1 and stretched[1].max() == 0
    padded = masks_at_input(masks, (8, 8), "pad", 255)
    assert padded[0, :4, :6].unique().tolist() == [1]
    assert padded[0, 4:].unique().tolist() == padded[0, :, 6:].unique().tolist() == [255]
    layers = masks_at_input([torch.ones(3, 4, 6)], (8, 8), "pad", 255)
    assert layers.shape == (1, 3, 8, 8)


def test_values_of_the_right_size_are_not_changed() -> None:
    logits = torch.randn(1, 2, 4, 5)
    assert resize_bilinear(logits, (4, 5)) is logits
    assert resize_bilinear(logits, (8, 10)).shape == (1, 2, 8, 10)
