"""An adapter decides what of a backbone trains; the rest is frozen, and merging leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from visiongraft.adaptation.layers import Adapted
from visiongraft.adaptation.networks import apply_adapters, merged_network
from visiongraft.adaptation.targets import calls, listed, weighted_layers
from visiongraft.adapters import Adapter, Applied, LayerAdapter, as_targets
from visiongraft.backbone import Backbone
from visiongraft.caching.folding import folded_copy
from visiongraft.errors import OptionError, PluginError
from visiongraft.hookspecs import hookimpl
from visiongraft.lookup.methods import find_adapter
from visiongraft.network import Network
from visiongraft.registry.manager import PluginManager, using
from visiongraft.schedules import Phase
from visiongraft.training.freezing import frozen_tensors
from visiongraft.training.trainable import apply_phase, parameter_groups

BASE = "backbone.blocks."


class Scales(Adapter):
    """The scales of batch norms."""

    name = "scales"

    def __init__(self, *, stage: str = "") -> None:
        self.stage = stage

    def apply(self, backbone: Backbone) -> Applied:
        names = (n for n, _ in backbone.named_parameters() if n.endswith(".1.weight"))
        return Applied(frozenset(n for n in names if self.stage in n), {"other layers": 3})


class Unknown(Scales):
    name = "unknown"

    def apply(self, backbone: Backbone) -> Applied:
        return Applied(frozenset({"nothing"}))


class Silent(Scales):
    name = "silent"

    def apply(self, backbone: Backbone) -> Any:
        return None


class Failing(Scales):
    name = "failing"

    def __init__(self, *, early: bool = False) -> None:
        if early:
            raise KeyError("made")

    def apply(self, backbone: Backbone) -> Applied:
        raise KeyError("applied")


class Rootless(Scales):
    """Is put where it cannot be."""

    name = "stem"

    def apply(self, backbone: Backbone) -> Applied:
        self.attach(backbone, "blocks", nn.Identity())  # type: ignore[arg-type]
        return Applied()


class Shift(LayerAdapter):
    """Becomes a bias, also of a layer that has none."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(4))

    def fold(self, layer: nn.Module, parameter: str | None) -> None:
        layer.bias = nn.Parameter(self.shift.clone())


class Shifts(Scales):
    name = "shifts"

    def apply(self, backbone: Backbone) -> Applied:
        self.attach(backbone, "blocks.stem.0", Shift())
        return Applied()


@pytest.fixture(autouse=True)
def registered(Gains: type[Adapter]) -> Iterator[None]:
    with using(PluginManager(discover=False)) as manager:
        kinds = [Gains, Scales, Unknown, Silent, Failing, Rootless, Shifts]
        register = hookimpl(lambda: kinds, specname="register_adapters")
        manager.register(SimpleNamespace(register_adapters=register), "mine")
        assert not [record.problems for record in manager.records if record.problems]
        yield


def adapted(network: Network, *adapters: str) -> Network:
    apply_adapters(network, [find_adapter(adapter) for adapter in adapters])
    return network


def factors(network: Network) -> set[str]:
    return {n for n, _ in network.named_parameters() if n.endswith("gains.factor")}


def test_an_adapter_and_the_head_train_and_the_base_does_not(toy_network: Network) -> None:
    network = adapted(toy_network, "gains")
    assert len(factors(network)) == 3
    for trainable, stages in (("all", "stem stage1 stage2"), ("stage2", "stage2"), ("head", "")):
        apply_phase(network, Phase(1, trainable, batch_norm="train"))
        trains = {n for n, p in network.named_parameters() if p.requires_grad}
        expected = {f"{BASE}{stage}.0.gains.factor" for stage in stages.split()}
        assert {n for n in trains if n.startswith("backbone")} == expected
        assert {n for n in trains if n.startswith("head")}
        state = {n for n in network.state_dict() if n.startswith("backbone")}
        assert {n for n in frozen_tensors(network) if n.startswith("backbone")} == state - expected


def test_an_exact_selection_names_an_adapter_or_the_base(toy_network: Network) -> None:
    network = adapted(toy_network, "gains", "scales(stage='stage2')")
    for trainable, names in (
        (("gains",), factors(network)),
        (("scales",), {f"{BASE}stage2.1.weight"}),
        ((f"{BASE}stem.0.weight",), {f"{BASE}stem.0.weight"}),
    ):
        apply_phase(network, Phase(1, (*trainable, "head")))
        trains = {n for n, p in network.named_parameters() if p.requires_grad}
        assert {n for n in trains if n.startswith("backbone")} == names


def test_layer_decay_counts_the_stages_of_an_adapters_parameters(toy_network: Network) -> None:
    network = adapted(toy_network, "gains")
    phase = Phase(1, "all", 1.0, layer_decay=0.5)
    apply_phase(network, phase)
    rates = {n: g["lr"] for g in parameter_groups(network, phase, 0.1) for n in g["names"]}
    stages = {"stem": 0.125, "stage1": 0.25, "stage2": 0.5}
    assert {n: rates[n] for n in factors(network)} == {
        f"{BASE}{stage}.0.gains.factor": rate for stage, rate in stages.items()
    }


def test_batch_norms_of_a_frozen_base_stay_in_evaluation(toy_network: Network) -> None:
    network = adapted(toy_network, "gains", "scales(stage='stage2')")
    apply_phase(network, Phase(1, "all", batch_norm="train"))
    network.train()
    modes = {n: m.training for n, m in network.backbone.named_modules() if n.endswith(".1")}
    assert modes == {"blocks.stem.1": False, "blocks.stage1.1": False, "blocks.stage2.1": True}


def test_merging_a_copy_leaves_the_network_and_no_trace(toy_network: Network) -> None:
    names = list(toy_network.state_dict())
    network = adapted(toy_network, "gains").eval()
    for name in factors(network):
        network.get_parameter(name).data.uniform_(0.5, 2)
    images = torch.randn(2, 3, 16, 16)
    merged = merged_network(network)
    torch.testing.assert_close(
        merged.backbone(images).pooled, network.backbone(images).pooled, rtol=1e-4, atol=1e-5
    )
    assert list(merged.state_dict()) == names
    assert not any(isinstance(m, Adapted) for m in merged.modules())
    assert len(factors(network)) == 3
    assert merged_network(merged) is merged


def test_batch_norms_are_not_folded_into_an_adapted_convolution(toy_network: Network) -> None:
    """The output of the convolution is not what its weight makes of the input."""
    network = adapted(toy_network, "gains").eval()
    for name in factors(network):
        network.get_parameter(name).data.uniform_(0.5, 2)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(
        folded_copy(network.backbone, images)(images).pooled, network.backbone(images).pooled
    )


def test_what_is_left_out_is_told(toy_network: Network) -> None:
    notes = apply_adapters(toy_network, [find_adapter("scales")])
    assert notes == ("adapter 'scales' leaves out 3 other layers",)


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        ("unknown", "names 'nothing', which is not a parameter of the backbone"),
        ("silent", "returned None, not an Applied"),
        ("failing", "cannot be applied: KeyError: 'applied'"),
        ("failing(early=True)", "cannot be made: KeyError: 'made'"),
        (
            "shifts",
            "merging it into layer 'blocks.stem.0' adds, removes or reshapes 'bias'; fold may",
        ),
    ],
)
def test_an_adapter_that_fails_is_named(adapter: str, words: str, toy_network: Network) -> None:
    with pytest.raises(PluginError, match=words):
        adapted(toy_network, adapter)


def test_an_adapter_does_not_hide_an_attribute_of_a_layer(toy_network: Network) -> None:
    with pytest.raises(OptionError, match="layer 'blocks': it has an attribute 'stem' of its own"):
        adapted(toy_network, "stem")


def test_a_backbone_is_left_as_it_was_by_the_search_for_layers(toy_network: Network) -> None:
    backbone = toy_network.backbone.train()
    state = {n: t.clone() for n, t in backbone.state_dict().items()}
    torch.manual_seed(0)
    found = calls(backbone)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(1))
    assert all(module.training for module in backbone.modules())
    assert all(torch.equal(tensor, state[n]) for n, tensor in backbone.state_dict().items())
    assert found["blocks.stem.0"].outputs == (1, 4, 8, 8)
    assert [n for n, each in weighted_layers(backbone).items() if each.parameter is None] == [
        f"blocks.{stage}.0" for stage in backbone.stages
    ]


def test_layers_are_listed_without_their_numbers() -> None:
    assert listed(["a.0.b", "a.1.b"]) == "a.*.b"
    assert listed(chr(97 + i) for i in range(14)).endswith("k, l, and 2 more")
    assert listed([]) == "nothing"


def test_targets_are_one_name_or_several() -> None:
    assert as_targets("targets", "qkv") == ("qkv",)
    assert as_targets("targets", ["a", "b"]) == ("a", "b")
    for wrong in ([""], 3, [3], None):
        with pytest.raises(OptionError, match="is not a name of layers or a list of names"):
            as_targets("targets", wrong)


def test_an_adapter_that_finds_nothing_is_refused(toy_network: Network) -> None:
    with pytest.raises(OptionError, match=r"'scales' finds nothing to train .* 'toys/toy'"):
        adapted(toy_network, "scales(stage='stage9')")
