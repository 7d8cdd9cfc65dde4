"""A stand-in for images carries their features, and nothing but the backbone may read it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visiongraft.caching.images import CachedImages, ImagesRead
from visiongraft.caching.plan import plan_replay
from visiongraft.caching.units import cached_images, recording, replaced
from visiongraft.data.batch import Batch
from visiongraft.network import Network
from visiongraft.schedules import Phase
from visiongraft.training.trainable import apply_phase

CPU = torch.device("cpu")


def stand_in() -> CachedImages:
    return CachedImages.of({}, (2, 3, 8, 8), CPU)


def images_of(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_shape_type_and_device_are_those_of_the_images() -> None:
    images = stand_in()
    assert (images.shape, images.dtype, images.device) == ((2, 3, 8, 8), torch.float32, CPU)
    assert len(images) == images.size(0) == 2
    assert images.ndim == images.dim() == 4
    assert images.numel() == 384
    assert not images.requires_grad
    assert repr(images) == "CachedImages(shape=(2, 3, 8, 8))"


def test_tensors_like_the_images_are_plain() -> None:
    for made in (stand_in().new_zeros(2), torch.ones_like(stand_in()), torch.rand_like(stand_in())):
        assert type(made) is Tensor
        assert made.isfinite().all()


READINGS: dict[str, Callable[[Tensor], Any]] = {
    "arithmetic": lambda x: x * 2,
    "reversed arithmetic": lambda x: 2 - x,
    "comparison": lambda x: x > 0,
    "mean": lambda x: x.mean(),
    "index": lambda x: x[0],
    "slice": lambda x: x[:1],
    "iteration": list,
    "unpacking": lambda x: x.unbind(),
    "concatenation": lambda x: torch.cat([torch.zeros(1, 3, 8, 8), x]),
    "flip": lambda x: x.flip(3),
    "convolution": lambda x: nn.Conv2d(3, 4, 3)(x),
    "functional": lambda x: nn.functional.interpolate(x, scale_factor=2),
    "operator": lambda x: torch.ops.aten.abs(x),
    "write": lambda x: x.zero_(),
    "assignment": lambda x: x.__setitem__(0, 1.0),
    "copy into another": lambda x: torch.zeros(2, 3, 8, 8).copy_(x),
    "other type": lambda x: x.half(),
    "to other type": lambda x: x.to(torch.float64),
    "array": np.asarray,
    "numpy": lambda x: x.numpy(),
    "list": lambda x: x.tolist(),
    "number": lambda x: x.sum().item(),
    "data": lambda x: x.data,
    "gradient": lambda x: x.requires_grad_(),
    "truth": bool,
    "copy": copy.deepcopy,
    "pickle": pickle.dumps,
    "random": lambda x: torch.bernoulli(x),
}


@pytest.mark.parametrize("reads", READINGS.values(), ids=READINGS)
def test_reading_it_in_any_way_is_refused(reads: Callable[[Tensor], Any]) -> None:
    with pytest.raises(
        ImagesRead, match=r"reads the images of a batch.*pass replay=False"
    ) as error:
        reads(stand_in())
    assert "\n" not in str(error.value)


def test_what_gets_around_the_refusal_is_not_a_number() -> None:
    """Never zeros: a loss of it would stop the run."""
    assert torch.vmap(torch.sum)(stand_in()).isnan().all()


def test_the_operation_is_named() -> None:
    with pytest.raises(ImagesRead, match=r"^torch\.Tensor\.square reads"):
        stand_in().square()


def test_moving_it_where_it_is_changes_nothing() -> None:
    images = stand_in()
    assert images.to(CPU, non_blocking=True) is images
    assert images.to(torch.float32) is images
    assert images.contiguous(memory_format=torch.channels_last) is images
    assert images.detach() is images
    assert Batch(images, None, torch.zeros(2, 2), torch.arange(2)).to(CPU).images is images


# ---- the backbone ----


@pytest.fixture
def frozen(toy_network: Network) -> Any:
    """A network whose first stage is frozen, its units, and the stand-in of two images."""
    apply_phase(toy_network, Phase(2, "stage1"))
    images = images_of(4)
    batch = Batch(images, torch.arange(4) % 3, torch.full((4, 2), 16), torch.arange(4))
    units = plan_replay(toy_network, batch).units
    with recording(toy_network.backbone, units) as prefix, torch.no_grad():
        values = prefix(images[:2])
    toy_network.eval()
    return toy_network, units, cached_images(units, values, images[:2])


def test_the_backbone_answers_each_batch_with_its_own_features(frozen: Any) -> None:
    network, units, first = frozen
    with recording(network.backbone, units) as prefix, torch.no_grad():
        second = cached_images(units, prefix(images_of(2, seed=1)), images_of(2))
    one, other = (network.backbone(i).pooled for i in (images_of(4)[:2], images_of(2, seed=1)))
    with replaced(network.backbone, units):
        for cached, expected in ((first, one), (second, other), (first, one)):
            torch.testing.assert_close(network.backbone(cached).pooled, expected)


def test_the_backbone_computes_other_images_as_ever(frozen: Any) -> None:
    network, units, _ = frozen
    images = images_of(3, seed=7)
    expected = network.backbone(images).pooled
    with replaced(network.backbone, units):
        assert torch.equal(network.backbone(images).pooled, expected)


def test_a_part_of_the_backbone_that_is_called_alone_refuses_it(frozen: Any) -> None:
    network, units, cached = frozen
    with replaced(network.backbone, units), pytest.raises(ImagesRead, match="conv2d"):
        network.backbone.blocks["stem"](cached)


def test_the_backbone_refuses_it_outside_the_cached_phase(frozen: Any) -> None:
    network, _, cached = frozen
    with pytest.raises(ImagesRead):
        network.backbone(cached)


def test_the_backbone_is_left_as_it_was(frozen: Any) -> None:
    network, units, cached = frozen
    with replaced(network.backbone, units):
        network.backbone(cached)
    assert all("forward" not in vars(module) for module in network.modules())
