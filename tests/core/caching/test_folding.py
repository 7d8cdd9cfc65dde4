"""Folded batch norms compute the same, and are folded only where that is so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import Conv2dSame, StdConv2d
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from visiongraft.caching import folding
from visiongraft.caching.folding import folded_copy
from visiongraft.caching.plan import plan_replay
from visiongraft.caching.store import Replay
from visiongraft.data.batch import Batch
from visiongraft.network import Network
from visiongraft.schedules import Phase
from visiongraft.training.trainable import apply_phase


def seasoned(model: nn.Module, seed: int = 0) -> nn.Module:
    """Set norms' statistics, scales and shifts as after training, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name, low, high in (
                ("running_mean", -0.5, 0.5),
                ("running_var", 0.5, 2.0),
                ("weight", 0.5, 1.5),
                ("bias", -0.5, 0.5),
            ):
                tensor = getattr(module, name)
                if tensor is not None:
                    tensor.data.uniform_(low, high, generator=generator)
    return model.double().eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def images_for(channels: int = 3, side: int = 32, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, channels, side, side, generator=generator, dtype=torch.float64)


def difference(one: nn.Module, other: nn.Module, images: Tensor) -> float:
    """Measure on images that the folding did not see, relative to the largest value."""
    with torch.no_grad():
        a, b = one(images), other(images)
    return float((a - b).abs().max() / a.abs().max())


# ---- real architectures ----

FAMILIES = {  # name: batch norms that are left
    "resnet18": 0,
    "resnet50d": 0,
    "efficientnet_lite0": 0,
    "tf_efficientnet_lite0": 0,  # pads as TensorFlow does
    "mobilenetv3_small_050": 0,
    "regnetx_002": 0,
    "regnety_002": 0,
    "convnext_atto": 0,  # has none
    "densenet121": 62,  # norms read concatenated maps
    "repvgg_a0": 17,  # norms beside convolutions read what the block reads
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folded_copy_of_a_real_backbone_computes_the_same(name: str) -> None:
    torch.manual_seed(0)
    model = seasoned(timm.create_model(name, num_classes=5))
    folded = folded_copy(model, images_for())
    assert norms(folded) == FAMILIES[name]
    assert difference(model, folded, images_for(seed=2)) < 1e-9


def test_a_wrong_fold_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above detects a fold that omits epsilon."""

    def careless(w: Any, b: Any, mean: Any, var: Any, eps: float, scale: Any, shift: Any) -> Any:
        return fuse_conv_bn_weights(w, b, mean, var, 0.0, scale, shift)

    monkeypatch.setattr(folding, "fuse_conv_bn_weights", careless)
    torch.manual_seed(0)
    model = seasoned(timm.create_model("resnet18", num_classes=5))
    folded = folded_copy(model, images_for())
    assert difference(model, folded, images_for(seed=2)) > 1e-7


# ---- any convolution before any norm ----


@given(
    convolution=st.sampled_from([nn.Conv2d, Conv2dSame]),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
    stride=st.integers(1, 2),
    affine=st.booleans(),
    activation=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_kind_of_convolution_and_norm_folds(
    convolution: type[nn.Conv2d],
    groups: int,
    bias: bool,
    stride: int,
    affine: bool,
    activation: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    norm = BatchNormAct2d(8, act_layer=nn.ReLU) if activation else nn.BatchNorm2d(8, affine=affine)
    layer = convolution(4, 8, 3, stride=stride, groups=groups, bias=bias)
    model = seasoned(nn.Sequential(layer, norm, nn.Conv2d(8, 2, 1)), seed)
    folded = folded_copy(model, images_for(4, 8))
    assert norms(folded) == 0
    assert difference(model, folded, images_for(4, 8, seed=2)) < 1e-12


def test_the_model_itself_is_left_as_it_was() -> None:
    model = seasoned(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = folded_copy(model, images_for())
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert model.training and not folded.training
    for module in (*model.modules(), *folded.modules()):
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_modules_keep_their_names() -> None:
    model = seasoned(timm.create_model("resnet18", num_classes=5))
    names = [name for name, _ in folded_copy(model, images_for()).named_modules()]
    assert names == [name for name, _ in model.named_modules()]


# ---- what must be left alone ----


class Twice(nn.Module):
    """One convolution, two norms that each saw other data."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.conv(self.first(self.conv(x))))


class SharedNorm(nn.Module):
    """Two convolutions, one norm."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.one(x)) + self.norm(self.two(x))


def in_place() -> nn.Module:
    """The activation returns the tensor of the convolution, modified in place."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(4))


def standardized() -> nn.Module:
    """Its weights are standardized in each pass, so that scaling them has no effect."""
    return nn.Sequential(StdConv2d(3, 4, 3), nn.BatchNorm2d(4))


def between() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.BatchNorm2d(4))


def first() -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3))


def without_statistics() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))


@pytest.mark.parametrize(
    "make",
    [Twice, SharedNorm, in_place, standardized, between, first, without_statistics],
    ids=lambda make: make.__name__,
)
def test_a_norm_that_cannot_be_folded_is_left_alone(make: Any) -> None:
    torch.manual_seed(0)
    model = seasoned(make())
    folded = folded_copy(model, images_for())
    assert norms(folded) == norms(model)
    assert difference(model, folded, images_for(seed=2)) == 0


def test_folding_one_of_them_all_the_same_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = seasoned(Twice())
    pairs = {"second": ("conv", "second")}
    monkeypatch.setattr(
        folding,
        "_pairs",
        lambda copy, images: {
            n: tuple(copy.get_submodule(part) for part in p) for n, p in pairs.items()
        },
    )
    folded = folded_copy(model, images_for())
    assert difference(model, folded, images_for(seed=2)) > 0.01


def test_replay_does_not_use_a_fold_that_is_wrong(toy_network: Network, tmp_path: Path) -> None:
    """Something besides the norm reads the convolution: folding cannot see it, but replay can."""

    class Reader(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            raw = self[0](images)
            rest: Tensor = self[3](self[2](self[1](raw) + raw))
            return rest

    toy_network.backbone.blocks["stem"] = Reader(*toy_network.backbone.blocks["stem"])
    apply_phase(toy_network, Phase(2, "stage1"))
    seasoned(toy_network.backbone).float()
    images = images_for(3, 16).float()
    wrong = folded_copy(toy_network.backbone, images)
    assert difference(PooledOf(toy_network.backbone), PooledOf(wrong), images) > 0.01
    batch = Batch(images, [0, 1], torch.full((2, 2), 16), torch.arange(2))
    plan = plan_replay(toy_network, Batch(images, torch.tensor([0, 1]), batch.sizes, batch.indices))
    with Replay(toy_network, plan, tmp_path) as replay, torch.no_grad():
        store = replay.record("x", 2, iter([batch]))
        exact = toy_network.eval().backbone.blocks["stem"](images)
    assert torch.equal(torch.from_numpy(store.arrays[0][:]), exact)


class PooledOf(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone.eval()

    def forward(self, images: Tensor) -> Tensor:
        pooled: Tensor = self.backbone(images).pooled
        return pooled
