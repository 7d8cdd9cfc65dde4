"""Images and targets are augmented alike, and colors stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from visiongraft.plugins.translation.transforms import PairTransform
from visiongraft.seeds import seeded

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("size", [(20, 28), (60, 50)], ids=str)
def test_a_pair_stays_aligned(size: tuple[int, int], whole: bool) -> None:
    values = RANDOM.integers(0, 128, (40, 50, 3)).astype(np.uint8)
    image = tv_tensors.Image(torch.from_numpy(values).permute(2, 0, 1))
    for seed in range(4):
        with seeded(seed):
            changed, target = PairTransform(size, True, whole)(image, 2 * values)
        assert changed.shape == (3, *size) and target.shape == (*size, 3)
        difference = (2 * changed.permute(1, 2, 0).int() - target.int()).abs()
        assert int(difference.max()) <= 2  # rounding, of the image doubled


def test_crops_keep_the_scale_and_whole_images_do_not() -> None:
    ramp = np.repeat(np.arange(100, dtype=np.uint8)[None, :, None], 80, 0).repeat(3, 2)
    image = tv_tensors.Image(torch.from_numpy(ramp).permute(2, 0, 1))
    steps = []
    for whole in (False, True):
        with seeded(0):
            changed, _ = PairTransform((20, 20), False, whole)(image, ramp)
        steps.append(float(changed[0, 0].float().diff().mean()))
    assert steps[0] == 1 and steps[1] > 3


def test_flips_can_be_disabled() -> None:
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None], 32, 0).repeat(3, 2)
    image = tv_tensors.Image(torch.from_numpy(ramp).permute(2, 0, 1))
    for flip in (False, True):
        directions = set()
        for seed in range(8):
            with seeded(seed):
                changed, _ = PairTransform((16, 16), flip, True)(image, ramp)
            directions.add(bool(changed[0, 0, -1] > changed[0, 0, 0]))
        assert len(directions) == 1 + flip
