"""Keys of cached features: equal for equal features, and different with everything they depend on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from visiongraft.caching import keys
from visiongraft.caching.keys import features_key
from visiongraft.caching.plan import plan_replay
from visiongraft.data.batch import Batch
from visiongraft.lookup.backbones import load_backbone
from visiongraft.network import Network
from visiongraft.schedules import Phase
from visiongraft.training.trainable import apply_phase


@pytest.fixture
def network(Toy: Any) -> Network:
    torch.manual_seed(0)
    network = Network(load_backbone("toys/toy", None), Toy())
    apply_phase(network, Phase(2, "stage2", batch_norm="train"))
    return network


def key(network: Network, images: tuple[str, ...] = ("a", "b"), **changes: Any) -> str:
    size = network.preprocess.config.size
    images_ = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(0))
    batch = Batch(images_, torch.arange(3), torch.full((3, 2), 50), torch.arange(3))
    plan = plan_replay(network, batch)
    assert not plan.reason
    return features_key(network, plan, images, **{"dtype": "float32", "batch_size": 8, **changes})


def test_equal_networks_have_equal_keys(network: Network, Toy: Any) -> None:
    torch.manual_seed(0)
    other = Network(load_backbone("toys/toy", None), Toy())
    apply_phase(other, Phase(2, "stage2", batch_norm="train"))
    assert key(network) == key(other)


def test_what_trains_does_not_count(network: Network) -> None:
    before = key(network)
    with torch.no_grad():
        for name, tensor in network.backbone.state_dict().items():
            if "stage2" in name and tensor.is_floating_point():
                tensor.add_(1.0)
        network.head.linear.weight.add_(1.0)  # type: ignore[operator, union-attr]
    assert key(network) == before


@pytest.mark.parametrize("part", ["parameter", "buffer"])
def test_every_frozen_tensor_counts(network: Network, part: str) -> None:
    before = key(network)
    tensors = dict(getattr(network.backbone, f"named_{part}s")())
    name = next(n for n, t in tensors.items() if "stage1" in n and t.is_floating_point())
    with torch.no_grad():
        tensors[name].reshape(-1)[0] += 1e-3
    assert key(network) != before


def test_images_and_their_number_count(network: Network) -> None:
    assert len({key(network, images) for images in ((), ("a",), ("a", "b"), ("ab",))}) == 4


def test_type_and_batch_size_count(network: Network) -> None:
    found = {key(network), key(network, dtype="float16"), key(network, batch_size=4)}
    assert len(found) == 3


def test_preprocessing_counts(network: Network) -> None:
    before = key(network)
    network.preprocess.config = replace(network.preprocess.config, crop_fraction=0.5)
    assert key(network) != before


def test_what_is_frozen_counts(network: Network) -> None:
    before = key(network)
    apply_phase(network, Phase(2, "head"))
    assert key(network) != before


def test_the_architecture_counts(network: Network) -> None:
    before = key(network)
    for name, module in list(network.backbone.named_modules()):
        if isinstance(module, nn.ReLU) and "stage1" in name:
            network.backbone.set_submodule(name, nn.ReLU6())
    assert key(network) != before


def test_versions_of_libraries_count(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(network)
    monkeypatch.setattr("PIL.__version__", "0.0")
    assert key(network) != before


def test_threads_count(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(network)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert key(network) != before


def test_the_code_of_modules_without_a_version_counts(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key(network)
    monkeypatch.setattr(keys, "source_digests", lambda kinds: {"plugin": "other"})
    assert key(network) != before
