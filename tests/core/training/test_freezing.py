"""Frozen means frozen: each silent failure known from other tools is planted and caught."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.core.conftest import Toy, ToyBackbone
from visiongraft.data.batch import Batch
from visiongraft.errors import ReceiptError, ScheduleError, TrainingError
from visiongraft.hookspecs import hookimpl
from visiongraft.lookup.methods import find_optimizer
from visiongraft.network import Network
from visiongraft.optimizers import adamw
from visiongraft.schedules import Phase, schedule
from visiongraft.training import phases
from visiongraft.training.freezing import (
    FrozenSnapshot,
    check_moments,
    check_optimizers,
    digest,
    frozen_tensors,
)
from visiongraft.training.optimizers import build_optimizer
from visiongraft.training.resuming.checkpoint import Checkpoint
from visiongraft.training.trainable import apply_phase, parameter_groups, trainable_stages
from visiongraft.training.weights.averages import EMA


def batch_of(count: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(
        torch.randn(count, 3, 16, 16, generator=generator),
        torch.arange(count) % 3,
        torch.full((count, 2), 16),
        torch.arange(count),
    )


def train_a_little(network, phase, steps=3, optimizer="adamw"):
    """Train without a fault; return snapshot and optimizer, ready to be checked."""
    apply_phase(network, phase)
    made = build_optimizer(find_optimizer(optimizer), parameter_groups(network, phase, 0.1))
    snapshot = FrozenSnapshot.take(network)
    for _ in range(steps):
        network.train()
        sum(network(batch_of()).values()).backward()
        made.step()
        made.zero_grad()
    return snapshot, made


@pytest.mark.parametrize("trainable", ["head", "stage2", "stage1", "stem", "all"])
@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_honest_training_gets_its_receipt(toy_network, trainable, batch_norm, optimizer):
    phase = Phase(1, trainable, 0.1, batch_norm=batch_norm)
    snapshot, made = train_a_little(toy_network, phase, optimizer=optimizer)
    receipt = snapshot.check(toy_network, [made], phase=phase, index=0)
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


def test_frozen_batch_norm_normalizes_alike_in_training_and_evaluation(toy_network):
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
    after = build_optimizer(adamw, parameter_groups(toy_network, second, 0.1), [before])
    assert [id(p) for p in toy_network.parameters()] == identities
    assert torch.equal(after.state[toy_network.head.linear.weight]["exp_avg"], moment)
    assert check_optimizers(toy_network, [after], "here") == len(identities)


def test_moments_lost_at_unfreezing_are_caught(toy_network):
    _, before = train_a_little(toy_network, Phase(1, "head", 0.1))
    phase = Phase(1, "all", 0.1)
    apply_phase(toy_network, phase)
    groups = parameter_groups(toy_network, phase, 0.1)
    check_moments([before], [build_optimizer(adamw, groups, [before])], "here")
    with pytest.raises(ReceiptError, match="lost the moments of 'head"):
        check_moments([before], [build_optimizer(adamw, groups)], "here")


def test_freezing_again_drops_the_optimizer_state_of_what_is_frozen(toy_network):
    _, before = train_a_little(toy_network, Phase(1, "all", 0.1))
    phase = Phase(1, "head", 0.1)
    apply_phase(toy_network, phase)
    after = build_optimizer(adamw, parameter_groups(toy_network, phase, 0.1), [before])
    held = set(after.state)
    assert held == set(toy_network.head.parameters()) | set(toy_network.loss.parameters())
    assert all(p.grad is None for p in toy_network.backbone.parameters())


def test_parameters_of_equal_value_are_distinguished(toy_network):
    with torch.no_grad():
        for parameter in toy_network.parameters():
            parameter.fill_(0.5)
    phase = Phase(1, "all")
    apply_phase(toy_network, phase)
    made = build_optimizer(adamw, parameter_groups(toy_network, phase, 0.1))
    assert check_optimizers(toy_network, [made], "") == len(list(toy_network.parameters()))


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
    """timm's unfreeze: new Parameter objects that the optimizer never sees."""
    head = network.head.linear
    head.weight = nn.Parameter(head.weight.detach().clone())


def drop_one(network, optimizer):
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
    replace_parameter: "head.linear.weight.*not in the optimizer",
    drop_one: "not in the optimizer",
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
    snapshot, optimizer = train_a_little(toy_network, phase)
    snapshot.check(toy_network, [optimizer], phase=phase, index=3)
    fault(toy_network, optimizer)
    with pytest.raises(ReceiptError, match=FAULTS[fault]):
        snapshot.check(toy_network, [optimizer], phase=phase, index=3)


def test_an_averaged_copy_that_moved_is_caught(toy_network):
    phase = Phase(1, "stage2", 0.1)
    average = EMA(toy_network, 0.9)
    snapshot, optimizer = train_a_little(toy_network, phase)
    average.after_step(toy_network, set(frozen_tensors(toy_network)))
    snapshot.check(toy_network, [optimizer], phase=phase, index=0, averaged=average.tensors)
    average.tensors["backbone.blocks.stem.0.weight"] += 1e-6
    with pytest.raises(ReceiptError, match="the averaged copy of"):
        snapshot.check(toy_network, [optimizer], phase=phase, index=0, averaged=average.tensors)


@pytest.mark.parametrize("fault", [drift, decay, write_by_hand], ids=lambda f: f.__name__)
def test_a_fault_in_the_middle_of_a_run_stops_it_and_leaves_no_model(
    tmp_path, fit_toy, toy_data, fault
):
    class Fault:
        @hookimpl
        def epoch_ended(self, run, record):
            fault(run.network, None)

    with pytest.raises(ReceiptError, match="phase 1"):
        fit_toy(
            toy_data(30),
            schedule="linear_probe",
            replay=False,
            out=tmp_path / "run",
            callbacks=[Fault()],
        )
    assert not (tmp_path / "run" / "model").exists()


# ---- the faults of other tools, planted where a real run would have them ----


def forget_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new optimizer at each unfreeze."""
    monkeypatch.setattr(
        phases, "build_optimizer", lambda factory, groups, _: build_optimizer(factory, groups)
    )


def keep_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """One optimizer for the whole run: tensors that are frozen again stay in it, and decay."""
    monkeypatch.setattr(
        phases,
        "build_optimizer",
        lambda factory, groups, before: before[0] if before else build_optimizer(factory, groups),
    )


def fill_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's filter: parameters that equal others in value are left out."""

    def groups(*given: Any) -> Any:
        kept: list[torch.Tensor] = []
        made = parameter_groups(*given)
        for group in made:
            new = []
            for name, parameter in zip(group["names"], group["params"], strict=True):
                if not any(torch.equal(parameter, other) for other in kept):
                    kept.append(parameter)
                    new.append((name, parameter))
            group["names"], group["params"] = (list(part) for part in zip(*new, strict=True))
        return made

    monkeypatch.setattr(phases, "parameter_groups", groups)


def replace_head_at_unfreezing(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's unfreeze: new Parameter objects that the optimizer does not have."""

    def apply(network: Network, phase: Phase) -> None:
        apply_phase(network, phase)
        head: Any = network.head
        head.linear.weight = nn.Parameter(head.linear.weight.detach().clone())

    monkeypatch.setattr(phases, "apply_phase", apply)


def freeze_weights_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual fault: ``train()`` puts frozen batch norms into training mode."""
    monkeypatch.setattr(Network, "train", nn.Module.train)


def average_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The EMA of tensors that are frozen again lags behind, and is what is saved."""
    monkeypatch.setattr(EMA, "adopt", lambda *_: None)


GROWING = "milestones(at={1: 'all'}, learning_rate=0.01)"
SHRINKING = "milestones(at={0: 'all', 1: 'head'}, learning_rate=0.01)"


@pytest.mark.parametrize(
    ("plant", "schedule", "words"),
    [
        (forget_moments, GROWING, "lost the moments of 'head.* at the start of phase 2"),
        (forget_moments, SHRINKING, "lost the moments of 'head.* at the start of phase 2"),
        (keep_optimizer, GROWING, "'backbone.* is not in the optimizer at the start of phase 2"),
        (keep_optimizer, SHRINKING, "holds 'backbone.*, which is frozen, at the start of phase 2"),
        (fill_by_value, SHRINKING, "is not in the optimizer at the start of phase 1"),
        (replace_head_at_unfreezing, GROWING, "lost the moments of 'head.linear.weight'"),
        (freeze_weights_only, GROWING, "running_mean.* changed in phase 1"),
        (freeze_weights_only, SHRINKING, "running_mean.* changed in phase 1"),
        (average_on, SHRINKING, "the averaged copy of .* changed in phase 2"),
    ],
    ids=lambda v: v.__name__ if callable(v) else "",
)
def test_a_fault_of_other_tools_ends_a_real_run(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    fit_toy: Any,
    toy_data: Any,
    plant: Any,
    schedule: str,
    words: str,
) -> None:
    settings = {"epochs": 2, "replay": False, "ema": 0.9}
    fit_toy(toy_data(30), schedule=schedule, out=tmp_path / "good", **settings)
    plant(monkeypatch)
    with pytest.raises(ReceiptError, match=words) as caught:
        fit_toy(toy_data(30), schedule=schedule, out=tmp_path / "bad", **settings)
    assert caught.value.exit_code == 1
    assert not (tmp_path / "bad" / "model").exists()


@pytest.mark.parametrize("hook", ["phase_started", "step_ended"])
def test_parameters_replaced_after_the_phase_began_are_caught(
    fit_toy: Any, toy_data: Any, hook: str
) -> None:
    """The optimizer would train unused tensors."""

    class Replace:
        @hookimpl(specname=hook)
        def replace(self, run: Any) -> None:
            weight = run.network.backbone.blocks["stem"][0].weight
            run.network.backbone.blocks["stem"][0].weight = nn.Parameter(weight.detach().clone())

    with pytest.raises(
        ReceiptError, match=r"'backbone.*stem\.0\.weight' is not in the optimizer in"
    ):
        fit_toy(toy_data(30), schedule="full", epochs=1, callbacks=[Replace()])


def test_freezing_again_keeps_the_trained_weights_not_their_ema(
    tmp_path: Path, fit_toy: Any, toy_data: Any
) -> None:
    fit_toy(toy_data(30), schedule=SHRINKING, epochs=3, ema=0.9, out=tmp_path / "run")
    point = Checkpoint.read(tmp_path / "run" / "checkpoints" / "last.safetensors")
    network, average = point.tensors["network"], point.tensors["ema"]
    for name, tensor in average.items():
        assert torch.equal(tensor, network[name]) is name.startswith("backbone."), name
    assert [receipt["ema_checked"] for receipt in point.state.receipts] == [True]


def test_weights_frozen_again_do_not_decay(tmp_path: Path, fit_toy: Any, toy_data: Any) -> None:
    fit_toy(toy_data(30), schedule=SHRINKING, epochs=4, weight_decay=5.0, out=tmp_path / "run")
    _, receipt = json.loads((tmp_path / "run" / "receipts.json").read_text())
    after = Checkpoint.read(tmp_path / "run" / "checkpoints" / "last.safetensors")
    backbone = {n: t for n, t in after.tensors["network"].items() if n.startswith("backbone.")}
    assert {n: digest(t) for n, t in backbone.items()} == receipt["frozen"]
    assert not [n for n in after.tensors["optimizer"] if n.startswith("backbone.")]


def test_a_model_counts_what_any_phase_trained_as_trainable_also_if_it_was_frozen_again(
    fit_toy: Any, toy_data: Any
) -> None:
    @schedule
    def head_last(stages: Any, epochs: int) -> Any:
        yield Phase(1, stages[-1])
        yield Phase(1, "head")

    model = fit_toy(toy_data(20), schedule=head_last, epochs=2)
    counts = {stage.name: stage.trainable / stage.parameters for stage in model.summary().stages}
    assert counts == {"stem": 0, "stage1": 0, "stage2": 1, "head": 1}


def test_a_digest_sees_every_bit_the_shape_and_the_type():
    base = torch.zeros(4)
    changed = base.clone()
    changed[0] = 1e-45
    others = [changed, base.view(2, 2), base.to(torch.float16), torch.zeros(4, dtype=torch.int32)]
    assert len({digest(t) for t in [base, *others]}) == 5
    assert digest(torch.zeros(0)) != digest(torch.zeros(0, 1))
    assert digest(torch.ones((), dtype=torch.bfloat16)) == digest(torch.ones(()).bfloat16())


# ---- what head and loss create as frozen ----


class Perceptual(nn.Module):
    """A loss with a frozen network, whose norm would follow the batches in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        layers = (nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.judge = nn.Sequential(*layers).requires_grad_(False)

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        entropy = nn.functional.cross_entropy(outputs * self.scale, targets)
        return {"entropy": entropy, "judged": self.judge(outputs).square().mean()}


class Anchored(Toy):
    """A task whose loss has a frozen network, and whose head a frozen layer."""

    def build_head(self, backbone: Any) -> nn.Module:
        head = super().build_head(backbone)
        head.norm.requires_grad_(False)
        return head

    def build_loss(self) -> nn.Module:
        return Perceptual()


@pytest.fixture
def anchored() -> Network:
    torch.manual_seed(0)
    return Network(ToyBackbone(), Anchored())


@pytest.mark.parametrize("trainable", ["head", "stage1", "all"])
def test_what_head_and_loss_create_as_frozen_stays_frozen(
    anchored: Network, trainable: str
) -> None:
    before = {n: t.clone() for n, t in anchored.state_dict().items()}
    phase = Phase(1, trainable, 0.1)
    snapshot, made = train_a_little(anchored, phase)
    receipt = snapshot.check(anchored, [made], phase=phase, index=0)
    changed = {n for n, t in anchored.state_dict().items() if not torch.equal(t, before[n])}
    assert {n for n in changed if n.startswith(("head.", "loss."))} == {
        "head.linear.weight",
        "head.linear.bias",
        "loss.scale",
    }
    assert not any(module.training for module in anchored.loss.judge.modules())
    assert not anchored.head.norm.training
    assert anchored.head.drop.training
    assert {"loss.judge.0.weight", "loss.judge.1.running_mean", "head.norm.running_var"} <= set(
        receipt.frozen
    )


def test_it_stays_frozen_in_the_next_phase(anchored: Network) -> None:
    for trainable in ("head", "all", "stage2"):
        apply_phase(anchored, Phase(1, trainable))
        assert not any(p.requires_grad for p in anchored.loss.judge.parameters())


@pytest.mark.parametrize("name", ["loss.judge.3.weight", "loss.judge.1.running_mean"])
def test_changing_it_costs_the_receipt(anchored: Network, name: str) -> None:
    phase = Phase(1, "all", 0.1)
    snapshot, made = train_a_little(anchored, phase)
    anchored.state_dict()[name].add_(1e-6)
    with pytest.raises(ReceiptError, match=f"frozen tensor '{name}' changed"):
        snapshot.check(anchored, [made], phase=phase, index=0)


def test_thawing_it_in_a_training_step_costs_the_receipt(anchored: Network) -> None:
    phase = Phase(1, "all", 0.1)
    snapshot, made = train_a_little(anchored, phase)
    anchored.loss.judge.requires_grad_(True)
    with pytest.raises(ReceiptError, match=r"'loss\.judge\.0\.weight' is not in the optimizer"):
        snapshot.check(anchored, [made], phase=phase, index=0)


def test_putting_it_into_training_mode_costs_the_receipt(anchored: Network) -> None:
    phase = Phase(1, "all", 0.1)
    snapshot, made = train_a_little(anchored, phase)
    anchored.loss.judge[1].train()
    with pytest.raises(ReceiptError, match=r"'loss\.judge\.1' was put into training mode"):
        snapshot.check(anchored, [made], phase=phase, index=0)


def test_a_head_that_registers_the_backbone_thaws_nothing_of_it(toy_network: Network) -> None:
    toy_network.head.seen = toy_network.backbone.blocks["stem"]
    apply_phase(toy_network, Phase(1, "stage1"))
    assert not any(p.requires_grad for p in toy_network.head.seen.parameters())


def test_a_run_in_which_nothing_is_left_to_train_is_refused(fit_toy: Any, toy_data: Any) -> None:
    class Fixed(Toy):
        def build_head(self, backbone: Any) -> nn.Module:
            return super().build_head(backbone).requires_grad_(False)

        def build_loss(self) -> nn.Module:
            return super().build_loss().requires_grad_(False)

    with pytest.raises(
        TrainingError, match="nothing trains in phase 1: head has no trainable parameters"
    ):
        fit_toy(toy_data(20), task=Fixed(augment=False), schedule="linear_probe", epochs=1)
    fit_toy(toy_data(20), task=Fixed(augment=False), schedule="full", epochs=1)
