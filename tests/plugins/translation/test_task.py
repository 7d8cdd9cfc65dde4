"""Networks make images of the size of theirs; losses are means over pixels that are no padding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from visiongraft.errors import OptionError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.plugins.translation.head import targets_at_input
from visiongraft.plugins.translation.loss import REGRESSIONS, RegressionLoss
from visiongraft.plugins.translation.task import Translation
from visiongraft.preprocess import Preprocess, PreprocessConfig

RANDOM = np.random.default_rng(0)


def network(resize: str = "stretch", in_channels: int = 3, **options: Any) -> Network:
    torch.manual_seed(0)
    backbone = load_backbone("simple_cnn", weights=None, size=32, in_channels=in_channels)
    preprocess = replace(backbone.info.preprocess, resize=resize)
    backbone.info = replace(backbone.info, preprocess=preprocess)
    return Network(backbone, Translation(channels=8, **options)).eval()


@pytest.mark.parametrize("resize", ["stretch", "pad"])
@pytest.mark.parametrize("residual", [False, True])
def test_images_have_the_size_of_theirs(resize: str, residual: bool) -> None:
    model = TransferModel(network(resize, residual=residual))
    images = [
        RANDOM.integers(0, 256, (*s, 3), dtype=np.uint8) for s in ((17, 41), (64, 32), (1, 9))
    ]
    for image, made in zip(images, model.predict(images), strict=True):
        assert made.image.shape == image.shape
        assert made.image.dtype == np.uint8


def test_a_change_begins_as_none_at_all() -> None:
    whole = network("pad", residual=True)
    image = RANDOM.integers(0, 256, (20, 40, 3), dtype=np.uint8)
    (made,) = TransferModel(whole).predict([image])
    assert np.array_equal(made.image, image)


def test_a_head_of_zeros_makes_gray_images() -> None:
    whole = network()
    for parameter in whole.head.parameters():
        torch.nn.init.zeros_(parameter)
    (made,) = TransferModel(whole).predict([np.zeros((8, 8, 3), np.uint8)])
    assert set(made.image.ravel()) == {128}


def test_targets_are_resized_like_images() -> None:
    config = PreprocessConfig(size=(16, 24), mean=(0.0,) * 3, std=(1.0,) * 3, resize="stretch")
    target = torch.from_numpy(RANDOM.integers(0, 256, (1, 30, 20, 3), dtype=np.uint8))
    preprocess = Preprocess(config)
    resized, inside = targets_at_input(target, torch.Size((16, 24)), preprocess)
    assert torch.allclose(resized, preprocess(target))
    assert bool((inside == 1).all())


def test_padding_counts_for_nothing() -> None:
    preprocess = network("pad").preprocess
    targets = [torch.zeros(20, 30, 3, dtype=torch.uint8), torch.zeros(32, 5, 3, dtype=torch.uint8)]
    wanted, inside = targets_at_input(targets, torch.Size((32, 32)), preprocess)
    assert inside.sum((1, 2, 3)).tolist() == [600, 160]
    made = torch.where(inside == 1, 0.5, 9.0).expand(-1, 3, -1, -1)
    assert float(RegressionLoss("l1")(made, wanted, inside)["l1"]) == pytest.approx(0.5)


@pytest.mark.parametrize(("kind", "expected"), [("l1", 0.2), ("l2", 0.04), ("charbonnier", 0.199)])
def test_losses_measure_differences(kind: str, expected: float) -> None:
    wanted, inside = torch.zeros(2, 3, 4, 4), torch.ones(2, 1, 4, 4)
    (value,) = RegressionLoss(kind)(wanted + 0.2, wanted, inside).values()
    assert float(value) == pytest.approx(expected, abs=1e-4)
    assert float(RegressionLoss(kind)(wanted, wanted, inside)[kind]) == 0
    assert set(REGRESSIONS) == {"l1", "l2", "charbonnier"}


def test_one_channel_becomes_color() -> None:
    gray = network(in_channels=1, residual=True)
    (made,) = TransferModel(gray).predict([np.zeros((8, 12), np.uint8)])
    assert made.image.shape == (8, 12, 3)


@pytest.mark.parametrize(
    "wrong",
    [{"direction": "ab"}, {"loss": "ssim"}, {"augment": "strong"}, {"flip": 1}, {"channels": 4}],
)
def test_invalid_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        Translation(**wrong)


def test_a_change_of_other_channels_than_colors_is_refused() -> None:
    with pytest.raises(OptionError, match="residual=True takes images of 1 or 3 channels, not 4"):
        network(in_channels=4, residual=True)
