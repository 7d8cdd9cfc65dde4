"""Gradient checkpointing: less memory, and in every other respect the same training."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from tests.core.stopping import StopAt
from visiongraft.backbone import Backbone
from visiongraft.data.batch import Batch
from visiongraft.errors import BackboneError, TrainingError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.network import Network
from visiongraft.schedules import Phase
from visiongraft.training.execution import recomputing as module
from visiongraft.training.execution.recomputing import checkpointed_modules, recomputing
from visiongraft.training.resuming.checkpoint import Checkpoint
from visiongraft.training.trainable import apply_phase


def network_of(Toy: Any, trainable: str | tuple[str, ...] = "all") -> Network:
    torch.manual_seed(0)
    network = Network(load_backbone("toys/toy", None), Toy())
    apply_phase(network, Phase(1, trainable, batch_norm="train"))
    return network.train()


def images() -> Tensor:
    return torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def step(network: Network, on: bool) -> dict[str, Tensor]:
    """Run one training step, and return all that it computes and changes."""
    torch.manual_seed(2)
    batch = Batch(images(), torch.arange(6) % 3, torch.full((6, 2), 16), torch.arange(6))
    with recomputing(checkpointed_modules(network.backbone) if on else ()):
        parts: Any = network(batch)
    drawn = torch.get_rng_state()
    sum(parts.values()).backward()
    gradients = {
        f"gradient {n}": p.grad for n, p in network.named_parameters() if p.grad is not None
    }
    after = {"drawn": drawn, "drawn after": torch.get_rng_state()}
    return {**parts, **dict(network.named_buffers()), **gradients, **after}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("trainable", ["all", "stage2", ("*.bias", "head")])
def test_losses_gradients_statistics_and_random_numbers_are_the_same(
    Toy: Any, trainable: Any
) -> None:
    with_it, without = (step(network_of(Toy, trainable), on) for on in (True, False))
    assert any(name.startswith("gradient backbone.") for name in without)
    assert_equal(with_it, without)


def test_statistics_that_were_updated_twice_would_be_noticed(
    Toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_buffers_kept", lambda _: nullcontext())
    with_it, without = (step(network_of(Toy), on) for on in (True, False))
    name = "backbone.blocks.stem.1.running_mean"
    assert not torch.equal(with_it[name], without[name])


def kept_bytes(network: Network, on: bool) -> int:
    """Count the bytes that a forward pass keeps for the backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    modules = checkpointed_modules(network.backbone) if on else ()
    with saved_tensors_hooks(pack, lambda tensor: tensor), recomputing(modules):
        features = network.backbone(images())
    features.pooled.sum().backward()
    return sum(kept.values())


def test_a_forward_pass_keeps_less(Toy: Any) -> None:
    network = network_of(Toy)
    assert kept_bytes(network, True) < 0.5 * kept_bytes(network, False)


def test_nothing_is_recomputed_without_gradients(Toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("recomputed")

    monkeypatch.setattr(module, "checkpoint", refuse)
    network = network_of(Toy, "head")
    with recomputing(checkpointed_modules(network.backbone)):
        network.backbone(images())
        with torch.no_grad():
            network_of(Toy).backbone(images())


def test_the_modules_are_left_as_they_were(Toy: Any) -> None:
    network = network_of(Toy)
    step(network, on=True)
    assert not any("forward" in vars(part) for part in network.modules())


def test_an_input_that_is_changed_in_place_is_refused(Toy: Any) -> None:
    network = network_of(Toy)
    blocks: Any = network.backbone.get_submodule("blocks")
    blocks["stage1"].insert(0, nn.SiLU(inplace=True))
    with pytest.raises(TrainingError, match="an input of Sequential is changed in place, "):
        step(network, on=True)


def test_a_backbone_without_support_is_refused_in_one_line(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        type(load_backbone("toys/toy", None)),
        "checkpointed_modules",
        Backbone.checkpointed_modules,
    )
    with pytest.raises(
        BackboneError,
        match="backbone 'toys/toy' does not support gradient checkpointing; leave out",
    ):
        fit_toy(toy_data(6), gradient_checkpointing=True, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ---- runs ----


def checkpoint_of(folder: Path) -> Checkpoint:
    return Checkpoint.read(folder / "checkpoints" / "last.safetensors")


def test_runs_are_bit_identical_also_with_cached_features_and_after_an_interruption(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    settings = {
        "schedule": "gradual(probe_learning_rate=0.05, learning_rate=0.02)",
        "epochs": 4,
        "replay": True,
        "checkpoint_every": 1,
    }
    data = toy_data(24)
    fit_toy(data, out=tmp_path / "without", **settings)
    fit_toy(data, out=tmp_path / "with", gradient_checkpointing=True, **settings)
    with pytest.raises(KeyboardInterrupt):
        stopped = {**settings, "gradient_checkpointing": True, "callbacks": [StopAt(2)]}
        fit_toy(data, out=tmp_path / "stopped", **stopped)
    fit_toy(data, out=tmp_path / "stopped", resume=True, **settings)
    first = checkpoint_of(tmp_path / "without")
    for name in ("with", "stopped"):
        other = checkpoint_of(tmp_path / name)
        for group, tensors in first.tensors.items():
            assert_equal(tensors, other.tensors[group])
        assert first.state == other.state
