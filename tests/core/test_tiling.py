"""Big images in windows: every pixel is covered, seams are blended, one decode per image."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from visiongraft.errors import OptionError
from visiongraft.inputs.samples import InputSamples
from visiongraft.tiling import OVERLAP, decode_tiled, windows


@given(st.integers(1, 5000), st.integers(1, 700))
def test_windows_cover_the_side_and_overlap(length: int, tile: int) -> None:
    starts = windows(length, tile)
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert starts[-1] + tile == length or (len(starts) == 1 and tile >= length)
    for one, other in pairwise(starts):
        assert other - one <= max(tile * (1 - OVERLAP), 1)


@given(st.integers(1, 700))
def test_an_image_that_fits_is_one_window(tile: int) -> None:
    assert windows(tile, tile) == [0]


@pytest.fixture
def identity(toy_network: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A network whose map is the image itself, so that blending must reproduce it."""

    class Whole(nn.Module):
        def forward(self, features: Tensor) -> dict[str, Tensor]:
            return {"maps": features}

    class Same(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images

    monkeypatch.setattr(type(toy_network.task), "full_resolution_outputs", ("maps",))
    monkeypatch.setattr(type(toy_network.task), "decode", lambda self, outputs, sizes: outputs)
    toy_network.preprocess.config = type(toy_network.preprocess.config)((32, 32), resize="pad")
    toy_network.head, toy_network.backbone = Whole(), Same()
    toy_network.anchor = nn.Parameter(torch.zeros(1))
    return toy_network


@pytest.mark.parametrize("shape", [(100, 70), (31, 200), (20, 20), (32, 33)])
def test_blending_windows_of_an_image_reproduces_the_image(
    identity: Any, shape: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    (decoded,) = decode_tiled(identity, InputSamples.of(image), (32, 32), batch_size=3)
    shown = identity.preprocess.normalize(torch.from_numpy(image).permute(2, 0, 1)[None])
    np.testing.assert_allclose(decoded["maps"], shown.numpy(), atol=1e-5)


def test_an_image_smaller_than_a_window_is_decoded_as_without_tiles(identity: Any) -> None:
    image = np.full((20, 30, 3), 77, np.uint8)
    (small,) = decode_tiled(identity, InputSamples.of(image), (512, 512), batch_size=1)
    with torch.no_grad():
        images = identity.preprocess(torch.from_numpy(image)[None])
        whole = identity.decode(images, torch.tensor([[20, 30]]))
    assert np.allclose(small["maps"], whole["maps"].numpy(), atol=1e-6)


def test_images_come_one_by_one_in_their_order(identity: Any) -> None:
    images = [np.full((40 + i, 50, 3), i, np.uint8) for i in range(4)]
    found = list(decode_tiled(identity, InputSamples.of(images), (32, 32), batch_size=8))
    assert [one["maps"].shape for one in found] == [(1, 3, 40 + i, 50) for i in range(4)]


def test_a_task_without_maps_is_refused(toy_network: Any) -> None:
    samples = InputSamples.of(np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(OptionError, match="task 'toy' has no maps to blend"):
        list(decode_tiled(toy_network, samples, (16, 16), batch_size=2))


def test_windows_take_the_same_forward_path_as_whole_images(
    identity: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def upside_down(self: Any, network: Any, images: Tensor) -> Any:
        return network.head(network.backbone(images.flip(1)))

    monkeypatch.setattr(type(identity.task), "inference_step", upside_down)
    image = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    (tiled,) = decode_tiled(identity, InputSamples.of(image), (512, 512), batch_size=1)
    with torch.no_grad():
        images = identity.preprocess(torch.from_numpy(image)[None])
        whole = identity.decode(images, torch.tensor([[20, 30]]))
    np.testing.assert_allclose(tiled["maps"], whole["maps"].numpy(), atol=1e-6)
