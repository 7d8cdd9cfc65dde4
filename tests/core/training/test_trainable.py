"""A phase trains exactly what it selects, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.core.conftest import Toy
from tests.core.training.test_freezing import train_a_little
from visiongraft.errors import ScheduleError
from visiongraft.network import Network
from visiongraft.schedules import Phase, schedule
from visiongraft.training.trainable import (
    apply_phase,
    parameter_groups,
    selected_parameters,
    trainable_parameters,
)
from visiongraft.training.weights.norms import gradient_norms, weight_norms


def rates_of(network: Network, phase: Phase) -> dict[str, float]:
    apply_phase(network, phase)
    groups = parameter_groups(network, phase, 0.1)
    return {name: group["peak_lr"] for group in groups for name in group["names"]}


@pytest.mark.parametrize(
    ("chosen", "prefixes"),
    [
        (("stem",), ("backbone.blocks.stem.",)),
        (("stem", "head"), ("backbone.blocks.stem.", "head.")),
        (("backbone",), ("backbone.",)),
        (("loss",), ("loss.",)),
        (("head.linear",), ("head.linear.",)),
        (("*.stage?.*", "loss"), ("backbone.blocks.stage1.", "backbone.blocks.stage2.", "loss.")),
    ],
)
def test_a_tuple_selects_exactly_what_it_names(
    toy_network: Network, chosen: tuple[str, ...], prefixes: tuple[str, ...]
) -> None:
    before = {n: p.detach().clone() for n, p in toy_network.named_parameters()}
    phase = Phase(1, chosen, 0.1, batch_norm="train")
    snapshot, made = train_a_little(toy_network, phase)
    receipt = snapshot.check(toy_network, [made], phase=phase, index=0)
    changed = {n for n, p in toy_network.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert all(name.startswith(prefixes) for name in changed)
    assert receipt.trainable == ", ".join(chosen)
    assert before.keys() - receipt.frozen.keys() == trainable_parameters(toy_network, chosen)


def test_biases_alone_can_be_trained_and_batch_norm_keeps_its_statistics(
    toy_network: Network,
) -> None:
    phase = Phase(1, ("*.bias", "head"), 0.1)
    snapshot, made = train_a_little(toy_network, phase)
    frozen = snapshot.check(toy_network, [made], phase=phase, index=0).frozen
    assert "backbone.blocks.stem.0.weight" in frozen
    assert "backbone.blocks.stem.1.weight" in frozen  # scale of a batch norm whose shift trains
    assert "backbone.blocks.stem.1.running_mean" in frozen
    assert "backbone.blocks.stem.1.bias" not in frozen


def test_a_head_that_is_not_selected_stays_in_evaluation_mode(toy_network: Network) -> None:
    apply_phase(toy_network, Phase(1, ("backbone", "loss")))
    toy_network.train()
    assert not any(module.training for module in toy_network.head.modules())
    assert any(module.training for module in toy_network.backbone.modules())


def test_what_a_head_creates_frozen_stays_frozen_under_a_tuple(toy_network: Network) -> None:
    toy_network.created_frozen = frozenset({"head.linear.weight"})
    assert "head.linear.weight" not in trainable_parameters(toy_network, ("head", "*.weight"))


def test_an_adapter_trains_under_its_stage_while_its_base_stays_frozen(
    toy_network: Network,
) -> None:
    base = {n for n, _ in toy_network.named_parameters() if n.startswith("backbone.")}
    own = frozenset({"backbone.blocks.stage1.0.weight"})
    toy_network.adapter_parameters = {"lora": own}
    toy_network.created_frozen = frozenset(base - own)
    outside = {n for n, _ in toy_network.named_parameters()} - base
    assert trainable_parameters(toy_network, "all") == own | outside
    assert trainable_parameters(toy_network, "stage2") == outside
    assert trainable_parameters(toy_network, ("lora",)) == own
    whole = trainable_parameters(toy_network, ("stem", "lora"))
    assert whole == own | selected_parameters(toy_network, ["stem"])


@pytest.mark.parametrize(
    ("part", "words"),
    [("haed", "did you mean 'head'"), ("stage9", "did you mean 'stage"), ("*.wieght", "")],
)
def test_a_name_that_selects_nothing_is_refused(
    toy_network: Network, part: str, words: str
) -> None:
    with pytest.raises(ScheduleError, match=f"selects no parameter of this network.*{words}"):
        apply_phase(toy_network, Phase(1, ("head", part)))


@pytest.mark.parametrize("trainable", [(), ("head", 3), 3, ""])
def test_what_is_no_selection_is_refused(trainable: Any) -> None:
    with pytest.raises(ScheduleError, match="neither a name nor a tuple of names"):
        Phase(1, trainable)


def test_rates_multiply_and_come_on_top_of_layer_decay(toy_network: Network) -> None:
    phase = Phase(1, "all", 1.0, layer_decay=0.5, rates={"head": 10.0, "*.bias": 2.0, "stem": 4.0})
    rates = rates_of(toy_network, phase)
    assert rates["head.linear.weight"] == 10.0
    assert rates["head.linear.bias"] == 20.0
    assert rates["backbone.blocks.stem.0.weight"] == 0.5**3 * 4
    assert rates["backbone.blocks.stem.1.bias"] == 0.5**3 * 8
    assert rates["backbone.blocks.stage2.0.weight"] == 0.5


@pytest.mark.parametrize("factor", [0, -1.0, float("nan"), "2", True])
def test_a_rate_that_is_not_positive_is_refused(factor: Any) -> None:
    with pytest.raises(ScheduleError, match="is not positive"):
        Phase(1, rates={"head": factor})


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ScheduleError, match="did you mean 'linear'"):
        Phase(1, shape="lienar")


def test_a_run_trains_a_selection_and_its_records_name_it(fit_toy: Any, toy_data: Any) -> None:
    model = fit_toy(
        toy_data(20), schedule="full(trainable=['*.bias', 'head'])", epochs=1, replay=False
    )
    assert "*.bias, head" in str(model.facts["training"]["phases"])


def test_a_selection_of_late_stages_is_replayed(fit_toy: Any, toy_data: Any) -> None:
    @schedule
    def late(stages: Any, epochs: int) -> Any:
        yield Phase(epochs, ("stage2", "head", "loss"), 0.01, augment=False)

    fit_toy(toy_data(40), task=Toy(augment=False), schedule=late, epochs=2, replay="on")


def test_schedules_are_sent_the_norms_of_weights_and_gradients(fit_toy: Any, toy_data: Any) -> None:
    seen = []

    @schedule
    def watching(stages: Any, epochs: int) -> Any:
        history = yield Phase(1, "stage2", 0.01)
        seen.extend(history)
        yield Phase(1, "head", 0.01)

    fit_toy(toy_data(20), schedule=watching, epochs=2, replay=False)
    norms = seen[0]["norms"]
    assert norms.keys() == {"stage2", "head", "loss"}
    assert all(each["weights"] > 0 and each["gradients"] > 0 for each in norms.values())


def test_gradient_norms_are_those_of_each_part(toy_network: Network) -> None:
    apply_phase(toy_network, Phase(1, "stage2"))
    for parameter in toy_network.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    count = sum(p.numel() for p in toy_network.head.parameters())
    assert gradient_norms(toy_network)["head"] == pytest.approx(count**0.5)
    weights = nn.utils.parameters_to_vector(toy_network.head.parameters())
    assert weight_norms(toy_network)["head"] == pytest.approx(float(weights.norm()))
