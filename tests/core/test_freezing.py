"""Frozen means frozen: each silent failure known from other tools is planted and caught."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visiongraft.averaging import Average
from visiongraft.errors import ReceiptError, ScheduleError
from visiongraft.freezing import (
    Seal,
    apply_phase,
    check_moments,
    check_optimizer,
    digest,
    frozen_tensors,
    parameter_groups,
    trainable_stages,
)
from visiongraft.hookspecs import hookimpl
from visiongraft.network import Batch
from visiongraft.optimizers import build_optimizer
from visiongraft.schedules import Phase


def batch_of(count: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(
        torch.randn(count, 3, 16, 16, generator=generator),
        torch.arange(count) % 3,
        torch.full((count, 2), 16),
        torch.arange(count),
    )


def train_a_little(network, phase, steps=3, optimizer="adamw"):
    """Train honestly and give seal and optimiser, ready to be checked."""
    apply_phase(network, phase)
    made = build_optimizer(optimizer, parameter_groups(network, phase, 0.1))
    seal = Seal.take(network)
    for _ in range(steps):
        network.train()
        sum(network(batch_of()).values()).backward()
        made.step()
        made.zero_grad()
    return seal, made


@pytest.mark.parametrize("trainable", ["head", "stage2", "stage1", "stem", "all"])
@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_honest_training_gets_its_receipt(toy_network, trainable, batch_norm, optimizer):
    phase = Phase(1, trainable, 0.1, batch_norm=batch_norm)
    seal, made = train_a_little(toy_network, phase, optimizer=optimizer)
    receipt = seal.check(toy_network, made, phase=phase, index=0)
    chosen = trainable_stages(toy_network.backbone.stages, trainable)
    frozen = {n.split(".")[2] for n in receipt.frozen if "running" not in n and "num_" not in n}
    assert frozen == set(toy_network.backbone.stages) - set(chosen)
    assert receipt.optimizer_parameters == sum(p.requires_grad for p in toy_network.parameters())


def test_what_trains_does_change_and_what_is_frozen_does_not(toy_network):
    before = {n: t.clone() for n, t in toy_network.state_dict().items()}
    train_a_little(toy_network, Phase(1, "stage1", 0.1, batch_norm="train"))
    changed = {n for n, t in toy_network.state_dict().items() if not torch.equal(t, before[n])}
    assert not {n for n in changed if ".stem." in n}
    assert {"backbone.blocks.stage1.0.weight", "backbone.blocks.stage1.1.running_mean"} <= changed
    assert {"head.linear.weight", "head.norm.running_mean", "loss.scale"} <= changed


def test_frozen_batch_norm_in_a_trainable_stage_keeps_its_statistics_but_trains_its_scale(
    toy_network,
):
    before = {n: t.clone() for n, t in toy_network.state_dict().items()}
    train_a_little(toy_network, Phase(1, "all", 0.1, batch_norm="frozen"))
    norm = "backbone.blocks.stage2.1"
    after = toy_network.state_dict()
    assert torch.equal(after[f"{norm}.running_mean"], before[f"{norm}.running_mean"])
    assert not torch.equal(after[f"{norm}.weight"], before[f"{norm}.weight"])


def test_a_frozen_stage_stays_in_evaluation_mode_through_every_train_call(toy_network):
    apply_phase(toy_network, Phase(1, "stage2"))
    for call in (toy_network.train, toy_network.eval, lambda: toy_network.train(True)):
        call()
        stem, stage2 = toy_network.backbone.blocks["stem"], toy_network.backbone.blocks["stage2"]
        assert not any(m.training for m in stem.modules())
    assert stage2[3].training  # dropout of a trainable stage
    assert not stage2[1].training  # its batch norm, as the phase says


def test_frozen_batch_norm_normalises_alike_in_training_and_evaluation(toy_network):
    apply_phase(toy_network, Phase(1, "head"))
    images = batch_of().images
    toy_network.train()
    in_training = toy_network.backbone(images).pooled
    toy_network.eval()
    assert torch.equal(in_training, toy_network.backbone(images).pooled)


def test_unfreezing_keeps_parameter_objects_and_the_moments_of_what_trained_before(toy_network):
    first = Phase(1, "head", 0.1)
    _, before = train_a_little(toy_network, first)
    identities = [id(p) for p in toy_network.parameters()]
    moment = before.state[toy_network.head.linear.weight]["exp_avg"].clone()
    second = Phase(1, "all", 0.1)
    apply_phase(toy_network, second)
    after = build_optimizer("adamw", parameter_groups(toy_network, second, 0.1), before)
    assert [id(p) for p in toy_network.parameters()] == identities
    assert torch.equal(after.state[toy_network.head.linear.weight]["exp_avg"], moment)
    assert check_optimizer(toy_network, after, "here") == len(identities)


def test_moments_lost_at_unfreezing_are_caught(toy_network):
    _, before = train_a_little(toy_network, Phase(1, "head", 0.1))
    phase = Phase(1, "all", 0.1)
    apply_phase(toy_network, phase)
    groups = parameter_groups(toy_network, phase, 0.1)
    check_moments(before, build_optimizer("adamw", groups, before), "here")
    with pytest.raises(ReceiptError, match="lost the moments of 'head"):
        check_moments(before, build_optimizer("adamw", groups), "here")


def test_freezing_again_drops_the_optimizer_state_of_what_is_frozen(toy_network):
    _, before = train_a_little(toy_network, Phase(1, "all", 0.1))
    phase = Phase(1, "head", 0.1)
    apply_phase(toy_network, phase)
    after = build_optimizer("adamw", parameter_groups(toy_network, phase, 0.1), before)
    held = set(after.state)
    assert held == set(toy_network.head.parameters()) | set(toy_network.loss.parameters())
    assert all(p.grad is None for p in toy_network.backbone.parameters())


def test_parameters_of_equal_value_are_told_apart(toy_network):
    with torch.no_grad():
        for parameter in toy_network.parameters():
            parameter.fill_(0.5)
    phase = Phase(1, "all")
    apply_phase(toy_network, phase)
    made = build_optimizer("adamw", parameter_groups(toy_network, phase, 0.1))
    assert check_optimizer(toy_network, made, "") == len(list(toy_network.parameters()))


def test_vectors_and_scalars_get_no_weight_decay_and_deeper_stages_learn_faster(toy_network):
    phase = Phase(1, "all", 1.0, layer_decay=0.5)
    apply_phase(toy_network, phase)
    found = {}
    for group in parameter_groups(toy_network, phase, 0.1):
        for name, parameter in zip(group["names"], group["params"], strict=True):
            assert (group["weight_decay"] > 0) == (parameter.ndim > 1)
            found[name] = group["peak_lr"]
    assert found["head.linear.weight"] == found["loss.scale"] == 1.0
    assert found["backbone.blocks.stage2.0.weight"] == 0.5
    assert found["backbone.blocks.stage1.0.weight"] == 0.25
    assert found["backbone.blocks.stem.0.weight"] == 0.125


def test_an_unknown_stage_is_refused_with_near_matches(toy_network):
    with pytest.raises(ScheduleError, match="did you mean 'stage1'"):
        apply_phase(toy_network, Phase(1, "stag1"))


# ---- planted faults ----


def drift(network, optimizer):
    """fastai with train_bn=False: the weights are frozen, the running statistics are not."""
    network.backbone.blocks["stem"][1].training = True
    network.backbone(batch_of().images)
    network.backbone.blocks["stem"][1].training = False


def decay(network, optimizer):
    """fastai after freezing again: zero gradients instead of none, so weight decay moves them."""
    weight = network.backbone.blocks["stem"][0].weight
    weight.grad = torch.zeros_like(weight)
    torch.optim.AdamW([weight], lr=0.1, weight_decay=0.1).step()


def write_by_hand(network, optimizer):
    with torch.no_grad():
        network.backbone.blocks["stage1"][0].weight[0, 0, 0, 0] += 1e-7


def replace_parameter(network, optimizer):
    """timm's unfreeze: new Parameter objects that the optimiser never sees."""
    head = network.head.linear
    head.weight = nn.Parameter(head.weight.detach().clone())


def drop_by_value(network, optimizer):
    """Lightning's filter: parameters that equal others in value are left out."""
    optimizer.param_groups[0]["params"].pop()


def hold_frozen(network, optimizer):
    optimizer.add_param_group({"params": [network.backbone.blocks["stem"][0].weight]})


def hold_twice(network, optimizer):
    optimizer.param_groups[0]["params"].append(optimizer.param_groups[0]["params"][0])


def forget_statistics(network, optimizer):
    """Lightning's freezing: batch statistics in training, running ones in evaluation."""
    norm = network.backbone.blocks["stem"][1]
    norm.track_running_stats = False
    norm.running_mean = None
    norm.running_var = None


def stop_tracking(network, optimizer):
    network.backbone.blocks["stem"][1].track_running_stats = False


def leave_in_training(network, optimizer):
    network.backbone.blocks["stem"].train()


def replace_module(network, optimizer):
    """timm's freeze: batch norms are replaced by other modules."""
    old = network.backbone.blocks["stem"][1]
    new = nn.BatchNorm2d(4)
    new.load_state_dict(old.state_dict())
    for parameter in new.parameters():
        parameter.requires_grad_(False)
    network.backbone.blocks["stem"][1] = new


FAULTS = {
    drift: "running_mean.*changed",
    decay: "stem.0.weight.*changed",
    write_by_hand: "stage1.0.weight.*changed",
    replace_parameter: "head.linear.weight.*not in the optimiser",
    drop_by_value: "not in the optimiser",
    hold_frozen: "stem.0.weight.*frozen",
    hold_twice: "twice",
    forget_statistics: "running statistics",
    stop_tracking: "running statistics",
    leave_in_training: "training mode",
    replace_module: "was replaced",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_planted_fault_is_caught_and_named(toy_network, fault):
    phase = Phase(1, "stage2", 0.1)
    seal, optimizer = train_a_little(toy_network, phase)
    seal.check(toy_network, optimizer, phase=phase, index=3)
    fault(toy_network, optimizer)
    with pytest.raises(ReceiptError, match=FAULTS[fault]):
        seal.check(toy_network, optimizer, phase=phase, index=3)


def test_an_averaged_copy_that_moved_is_caught(toy_network):
    phase = Phase(1, "stage2", 0.1)
    average = Average(toy_network, 0.9)
    seal, optimizer = train_a_little(toy_network, phase)
    average.update(toy_network, set(frozen_tensors(toy_network)))
    seal.check(toy_network, optimizer, phase=phase, index=0, ema=average.tensors)
    average.tensors["backbone.blocks.stem.0.weight"] += 1e-6
    with pytest.raises(ReceiptError, match="the averaged copy of"):
        seal.check(toy_network, optimizer, phase=phase, index=0, ema=average.tensors)


@pytest.mark.parametrize("fault", [drift, decay, write_by_hand], ids=lambda f: f.__name__)
def test_a_fault_in_the_middle_of_a_run_stops_it_and_leaves_no_model(
    tmp_path, fit_toy, toy_data, fault
):
    class Fault:
        @hookimpl
        def epoch_ended(self, run, record):
            fault(run.network, None)

    with pytest.raises(ReceiptError, match="phase 0"):
        fit_toy(
            toy_data(30),
            schedule="linear_probe",
            replay=False,
            out=tmp_path / "run",
            listeners=[Fault()],
        )
    assert not (tmp_path / "run" / "model").exists()


def test_a_digest_sees_every_bit_the_shape_and_the_type():
    base = torch.zeros(4)
    changed = base.clone()
    changed[0] = 1e-45
    others = [changed, base.view(2, 2), base.to(torch.float16), torch.zeros(4, dtype=torch.int32)]
    assert len({digest(t) for t in [base, *others]}) == 5
    assert digest(torch.zeros(0)) != digest(torch.zeros(0, 1))
    assert digest(torch.ones((), dtype=torch.bfloat16)) == digest(torch.ones(()).bfloat16())
