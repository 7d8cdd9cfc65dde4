"""Small backbones of each kind that adapters are put into, and layers to try them on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from visiongraft.adaptation.backbones import apply_adapter
from visiongraft.backbone import Backbone, BackboneInfo, Features
from visiongraft.lookup.methods import find_adapter
from visiongraft.preprocess import PreprocessConfig


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Layers(Backbone):
    """One layer of each kind after a first stage, none of them square."""

    def __init__(self, **layers: nn.Module) -> None:
        parts = {"stem": nn.Conv2d(3, 12, 3, bias=False), **layers}
        tensors = {f"{n}.{t}": n for n, m in parts.items() for t in m.state_dict()}
        stages = {t: "stem" if n == "stem" else "stage1" for t, n in tensors.items()}
        preprocess = PreprocessConfig(size=(16, 16))
        super().__init__(BackboneInfo("tests/layers", stages, (12,), (1,), 12, preprocess))
        self.parts = list(parts)
        for name, module in parts.items():
            self.add_module(name, module)

    def forward(self, images: Tensor) -> Features:
        x = images
        for name in self.parts:
            layer = self.get_submodule(name)
            flat = isinstance(layer, (nn.Linear, nn.LayerNorm)) and x.ndim == 4
            x = layer(x.flatten(2).transpose(1, 2) if flat else x)
        return Features((images,), x.flatten(1))


@pytest.fixture(scope="session", name="layers")
def layers_fixture() -> Callable[..., Layers]:
    def make(**layers: nn.Module) -> Layers:
        torch.manual_seed(0)
        return Layers(**layers).eval()

    return make


def apply(backbone: Backbone, *adapters: str) -> frozenset[str]:
    """Apply adapters and return the names of the parameters that they train."""
    return frozenset().union(*(apply_adapter(backbone, find_adapter(a))[0] for a in adapters))


def perturb(backbone: Backbone, names: frozenset[str]) -> None:
    """Change parameters at random, as training would."""
    generator = torch.Generator().manual_seed(1)
    parameters = dict(backbone.named_parameters())
    with torch.no_grad():
        for name in sorted(names):
            noise = torch.randn(parameters[name].shape, generator=generator)
            parameters[name].add_(noise, alpha=0.2)


def embed(backbone: Backbone, size: int = 16, seed: int = 2) -> Tensor:
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        pooled: Tensor = backbone.eval()(images).pooled
    return pooled


@pytest.fixture(scope="session", name="apply")
def apply_fixture() -> Any:
    return apply


@pytest.fixture(scope="session", name="perturb")
def perturb_fixture() -> Any:
    return perturb


@pytest.fixture(scope="session", name="embed")
def embed_fixture() -> Any:
    return embed


@pytest.fixture(scope="session")
def toy_network_of() -> Any:
    from visiongraft.adaptation.networks import apply_adapters
    from visiongraft.lookup.backbones import load_backbone
    from visiongraft.network import Network
    from visiongraft.plugins.classification.task import Classification

    def make(*adapters: str, backbone: str = "simple_cnn") -> Network:
        torch.manual_seed(0)
        task = Classification(class_names=("a", "b"))
        network = Network(load_backbone(backbone, None, size=32), task)
        apply_adapters(network, [find_adapter(adapter) for adapter in adapters])
        return network

    return make
