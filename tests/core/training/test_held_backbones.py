"""A loss may hold a copy of the backbone, whose stages are then frozen and trained like the backbone's."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from tests.core.conftest import Toy, ToyBackbone, ToyLoss
from tests.core.training.test_freezing import batch_of, train_a_little
from visiongraft.backbone import Backbone
from visiongraft.errors import PluginError, ReceiptError
from visiongraft.network import Network
from visiongraft.schedules import Phase
from visiongraft.task import LossParts
from visiongraft.task_contract.checks import check_task_class
from visiongraft.training.trainable import apply_phase, parameter_groups, selected_parameters


class TwinLoss(ToyLoss):
    """A loss with a second network, which should see the same as the first."""

    def __init__(self, twin: nn.Module) -> None:
        super().__init__()
        self.twin = twin


class Twins(Toy):
    name = "twins"

    def build_loss(self, backbone: Backbone) -> nn.Module:  # type: ignore[override]
        return TwinLoss(deepcopy(backbone))

    def training_step(self, network: Network, batch: Any) -> LossParts:
        features, twin = network.backbone(batch.images), network.loss.twin(batch.images)
        apart = (features.pooled - twin.pooled - 1).square().mean()
        return {**network.loss(network.head(features), batch.targets), "apart": apart}


@pytest.fixture
def twins() -> Network:
    torch.manual_seed(0)
    return Network(ToyBackbone(), Twins())


def test_the_copy_begins_with_the_weights_of_the_backbone(twins: Network) -> None:
    check_task_class(Twins)
    for one, other in zip(twins.backbone.parameters(), twins.loss.twin.parameters(), strict=True):
        assert one is not other and torch.equal(one, other)
    assert not any(name.startswith("loss.") for name in twins.inference_state())


@pytest.mark.parametrize("trainable", ["head", "stage1", "all"])
def test_a_phase_freezes_the_same_stages_of_both_with_receipts(
    twins: Network, trainable: str
) -> None:
    before = {n: t.clone() for n, t in twins.state_dict().items()}
    phase = Phase(1, trainable, 0.1)
    snapshot, made = train_a_little(twins, phase)
    frozen = set(snapshot.check(twins, [made], phase=phase, index=0).frozen)
    of_both = [
        {name.removeprefix(prefix) for name in frozen if name.startswith(prefix)}
        for prefix in ("backbone.", "loss.twin.")
    ]
    assert of_both[0] == of_both[1] and of_both[0]
    changed = {n for n, t in twins.state_dict().items() if not torch.equal(t, before[n])}
    trained = {n for n in changed if n.startswith("loss.twin.")}
    assert bool(trained) is (trainable != "head")
    assert not any(".stem." in name for name in trained) or trainable == "all"
    assert not any("running" in name for name in trained)  # of batch norms that stay frozen


@pytest.mark.parametrize("name", ["blocks.stem.0.weight", "blocks.stem.1.running_mean"])
def test_changing_a_frozen_stage_of_the_copy_costs_the_receipt(twins: Network, name: str) -> None:
    phase = Phase(1, "stage1", 0.1)
    snapshot, made = train_a_little(twins, phase)
    twins.loss.twin.state_dict()[name].add_(1e-6)
    with pytest.raises(ReceiptError, match=rf"frozen tensor 'loss\.twin\.{name}' changed"):
        snapshot.check(twins, [made], phase=phase, index=0)


def test_modules_of_frozen_stages_of_the_copy_stay_in_evaluation_mode(twins: Network) -> None:
    apply_phase(twins, Phase(1, "stage2"))
    twins.train()
    blocks = twins.loss.twin.blocks
    assert not any(module.training for module in blocks["stem"].modules())
    assert blocks["stage2"][3].training and not blocks["stage2"][1].training


def test_rates_decay_alike(twins: Network) -> None:
    phase = Phase(1, "all", 0.1, layer_decay=0.5)
    apply_phase(twins, phase)
    groups = parameter_groups(twins, phase, 0.1)
    rates = {name: group["peak_lr"] for group in groups for name in group["names"]}
    for name, _ in twins.backbone.named_parameters():
        assert rates[f"backbone.{name}"] == rates[f"loss.twin.{name}"]
    assert rates["loss.twin.blocks.stem.0.weight"] < rates["loss.scale"]


@pytest.mark.parametrize(
    ("part", "prefixes"),
    [
        ("backbone", {"backbone.blocks", "loss.twin"}),
        ("stage1", {"backbone.blocks", "loss.twin"}),
        ("loss", {"loss.scale"}),
        ("loss.twin", {"loss.twin"}),
        ("backbone.blocks", {"backbone.blocks"}),
    ],
)
def test_names_of_stages_stand_for_both_and_the_loss_for_the_rest(
    twins: Network, part: str, prefixes: set[str]
) -> None:
    found = selected_parameters(twins, (part,))
    assert {".".join(name.split(".")[:2]) for name in found} == prefixes


def test_a_copy_that_is_created_frozen_stays_frozen() -> None:
    class Teacher(Twins):
        def build_loss(self, backbone: Backbone) -> nn.Module:  # type: ignore[override]
            return TwinLoss(deepcopy(backbone).requires_grad_(False))

    network = Network(ToyBackbone(), Teacher())
    apply_phase(network, Phase(1, "all"))
    network.train()
    assert not any(p.requires_grad for p in network.loss.twin.parameters())
    assert not any(module.training for module in network.loss.twin.modules())
    network(batch_of())


def test_a_loss_that_registers_the_backbone_itself_is_refused() -> None:
    class Same(Twins):
        def build_loss(self, backbone: Backbone) -> nn.Module:  # type: ignore[override]
            return TwinLoss(backbone)

    with pytest.raises(PluginError, match="task 'twins': the loss registers the backbone as its"):
        Network(ToyBackbone(), Same())


def test_other_arguments_are_refused() -> None:
    class Odd(Toy):
        def build_loss(self, network: Any) -> nn.Module:  # type: ignore[override]
            return ToyLoss()

    with pytest.raises(PluginError, match=r"build_loss\(\) that does not take \(\)"):
        check_task_class(Odd)
