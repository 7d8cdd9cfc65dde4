"""Optimizer state by name, and learning rates by step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks

from tests.core.conftest import Toy
from visiongraft.data.batch import StepInfo
from visiongraft.errors import (
    CheckpointError,
    OptionError,
    PluginError,
    ReceiptError,
    ScheduleError,
)
from visiongraft.hookspecs import hookimpl
from visiongraft.lookup.methods import find_optimizer
from visiongraft.optimizers import OptimizerFactory, OptimizerSpec, adamw, optimizer, sgd
from visiongraft.registry.manager import plugins
from visiongraft.schedules import SHAPES
from visiongraft.training.optimizers import (
    build_optimizer,
    learning_rate_factor,
    optimizer_tensors,
    restore_optimizers,
    set_learning_rate,
)


def groups_of(layer: nn.Linear) -> list[dict]:
    names, params = zip(*layer.named_parameters(), strict=True)
    return [{"names": list(names), "params": list(params), "lr": 0.1, "peak_lr": 0.1}]


def steps(layer: nn.Linear, optimizer: torch.optim.Optimizer, count: int) -> None:
    for i in range(count):
        layer(torch.full((1, 3), i + 1.0)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_state_read_by_name_and_put_back_continues_exactly(name):
    torch.manual_seed(0)
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    first = build_optimizer(find_optimizer(name), groups_of(one))
    steps(one, first, 3)
    other.load_state_dict(one.state_dict())
    second = build_optimizer(find_optimizer(name), groups_of(other))
    restore_optimizers([second], *optimizer_tensors([first]))
    steps(one, first, 2)
    steps(other, second, 2)
    assert torch.equal(one.weight, other.weight)
    assert torch.equal(one.bias, other.bias)


def test_state_that_is_not_a_tensor_is_restored_too() -> None:
    optimizer = build_optimizer(sgd, groups_of(nn.Linear(3, 2)))
    restore_optimizers([optimizer], {}, {"weight/count": 3, "bias/note": None})
    assert optimizer_tensors([optimizer]) == ({}, {"weight/count": 3, "bias/note": None})


def test_state_of_a_frozen_parameter_is_refused():
    layer = nn.Linear(3, 2)
    optimizer = build_optimizer(adamw, groups_of(layer))
    with pytest.raises(CheckpointError, match=r"'stem\.weight', which is frozen"):
        restore_optimizers([optimizer], {"stem.weight/exp_avg": torch.zeros(1)}, {})


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(PluginError, match="did you mean 'sgd'"):
        find_optimizer("sgdd")


@given(total=st.integers(1, 500), shape=st.sampled_from(SHAPES))
def test_the_learning_rate_rises_once_then_falls_and_stays_in_bounds(total, shape):
    factors = [learning_rate_factor(s, total, shape) for s in range(total)]
    assert all(0 < f <= 1 for f in factors)
    top = factors.index(max(factors))
    assert factors[top] == 1.0
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


@pytest.mark.parametrize("shape", ["cosine", "linear", "constant"])
def test_the_learning_rate_can_stay_from_a_step_on_but_warms_up_first(shape):
    plain, held, early = (
        [learning_rate_factor(s, 100, shape, held=h) for s in range(100)] for h in (100, 60, 0)
    )
    assert held == plain[:60] + [plain[60]] * 40
    assert early == plain[:5] + [1.0] * 95


def test_every_group_follows_its_own_peak():
    layer = nn.Linear(3, 2)
    groups = [
        {"names": ["weight"], "params": [layer.weight], "lr": 1.0, "peak_lr": 1.0},
        {"names": ["bias"], "params": [layer.bias], "lr": 0.2, "peak_lr": 0.2},
    ]
    optimizer = build_optimizer(sgd, groups)
    set_learning_rate(optimizer, 0.5)
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.1]


# ---- optimizers of a task's own ----


def with_optimizer(make: Any) -> Toy:
    """Make a toy task whose training step trains a critic by itself."""
    critic = nn.Linear(3, 1)
    kept: list[torch.optim.Optimizer] = []

    def training_step(self: Any, network: Any, batch: Any) -> dict[str, torch.Tensor]:
        parts = Toy.training_step(self, network, batch)
        optimizer = make(critic, kept)
        critic(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        return parts

    return type("Critical", (Toy,), {"training_step": training_step})(augment=False)


def keeping(kind: Any, **options: Any) -> Any:
    def make(critic: nn.Module, kept: list[torch.optim.Optimizer]) -> torch.optim.Optimizer:
        if not kept:
            kept.append(kind(critic.parameters(), lr=0.01, **options))
        return kept[0]

    return make


@pytest.mark.parametrize(
    "make", [keeping(torch.optim.Adam), keeping(torch.optim.SGD, momentum=0.9)], ids=["adam", "sgd"]
)
@pytest.mark.parametrize("replay", [False, "auto"])
def test_an_optimizer_that_a_task_keeps_is_refused(
    fit_toy: Any, toy_data: Any, make: Any, replay: Any
) -> None:
    settings = {"schedule": "linear_probe", "epochs": 2, "replay": replay}
    with pytest.raises(PluginError, match=r"task 'toy' keeps an optimizer of its own \(") as error:
        fit_toy(toy_data(40), task=with_optimizer(make), **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "make",
    [
        keeping(torch.optim.SGD),
        lambda critic, kept: torch.optim.Adam(critic.parameters(), lr=0.01),
    ],
    ids=["without state", "of one step"],
)
def test_an_optimizer_without_state_to_lose_is_accepted(
    fit_toy: Any, toy_data: Any, make: Any
) -> None:
    fit_toy(toy_data(20), task=with_optimizer(make), schedule="linear_probe", epochs=1)


def test_watching_ends_with_the_run(fit_toy: Any, toy_data: Any) -> None:
    fit_toy(toy_data(20), schedule="linear_probe", epochs=1)
    assert not _global_optimizer_post_hooks


# ---- several optimizers ----


class Opposed(Toy):
    """A toy whose loss is trained by another optimizer than the rest."""

    specs: ClassVar[Any] = (
        OptimizerSpec("scale", ("loss",), "sgd", options={"momentum": 0.5}, rate=0.5, every=2),
        OptimizerSpec("rest", ("backbone", "head"), shape="constant"),
    )
    seen: ClassVar[list[StepInfo]] = []

    def optimizers(self) -> tuple[OptimizerSpec, ...]:
        return self.specs

    def training_step(self, network: Any, batch: Any) -> Any:
        self.seen.append(batch.step)
        return super().training_step(network, batch)


def watched(specs: Any = Opposed.specs) -> Opposed:
    kind = type("Watched", (Opposed,), {"specs": specs, "seen": []})
    return kind(augment=False)


def test_each_step_runs_once_per_optimizer_that_is_due(fit_toy: Any, toy_data: Any) -> None:
    task = watched()
    fit_toy(toy_data(60), task=task, schedule="full", epochs=2, batch_size=12, replay=False)
    order = [(step.number, step.optimizer) for step in task.seen]
    assert order[:4] == [(0, "scale"), (0, "rest"), (1, "rest"), (2, "scale")]
    assert [number for number, name in order if name == "scale"] == [0, 2, 4, 6]
    assert [number for number, name in order if name == "rest"] == list(range(8))
    progress = [step.progress for step in task.seen]
    assert progress[0] == 0
    assert progress == sorted(progress)
    assert progress[-1] == pytest.approx(7 / 8)


def test_records_name_the_parts_of_each_optimizer(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    fit_toy(toy_data(40), task=watched(), schedule="full", epochs=1, out=tmp_path / "run")
    record = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    parts = {f"{name}.{part}" for name in ("scale", "rest") for part in ("entropy", "penalty")}
    assert record["train"].keys() == parts | {"loss"}


def test_transfer_losses_are_not_added_to_the_steps_of_an_optimizer_that_declines_them(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    scale, rest = Opposed.specs
    task = watched((replace(scale, transfer_losses=False), rest))
    settings = {"schedule": "full", "epochs": 1, "transfer_loss": "bss", "out": tmp_path / "run"}
    fit_toy(toy_data(40), task=task, **settings)
    record = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert [name for name in record["train"] if "spectrum" in name] == ["rest.bss.spectrum"]


def test_an_optimizer_rests_while_nothing_of_its_own_trains(fit_toy: Any, toy_data: Any) -> None:
    specs = (OptimizerSpec("body", ("backbone",)), OptimizerSpec("rest", ("head", "loss")))
    task = watched(specs)
    fit_toy(toy_data(40), task=task, schedule="lp_ft(probe_epochs=1)", epochs=2, replay=False)
    names = [step.optimizer for step in task.seen]
    first = names.index("body")
    assert 0 < first
    assert set(names[:first]) == {"rest"}
    assert set(names[first:]) == {"body", "rest"}


@pytest.mark.parametrize(
    ("specs", "error", "words"),
    [
        ((OptimizerSpec("one", ("head",)),), ReceiptError, "is not in the optimizer"),
        (
            (OptimizerSpec("one", ("*",)), OptimizerSpec("two", ("head",))),
            ReceiptError,
            r"'head\.\S+' twice",
        ),
        (
            (OptimizerSpec("one"), OptimizerSpec("one")),
            PluginError,
            "a tuple of OptimizerSpec, each with another name",
        ),
        ([OptimizerSpec()], PluginError, "not a tuple of OptimizerSpec"),
        ((OptimizerSpec(optimizer="adma"),), PluginError, "did you mean 'adamw'"),
        (
            (OptimizerSpec(options={"beta": 1}),),
            OptionError,
            "optimizer 'adamw' has no option 'beta'; did you mean 'betas'",
        ),
        (
            (OptimizerSpec(parts=("critic",)),),
            ScheduleError,
            "parts of optimizer 'main'='critic' selects no",
        ),
    ],
)
def test_wrong_optimizers_end_as_one_line(
    fit_toy: Any, toy_data: Any, specs: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as raised:
        fit_toy(toy_data(20), task=watched(specs), schedule="full", epochs=1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"parts": ()},
        {"parts": "head"},
        {"rate": 0},
        {"every": 0},
        {"clip_norm": -1},
        {"shape": "sine"},
    ],
    ids=str,
)
def test_a_spec_with_a_wrong_value_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="of optimizer 'main'"):
        OptimizerSpec(**wrong)


def test_a_wrong_value_of_an_option_is_refused_in_one_line(fit_toy: Any, toy_data: Any) -> None:
    with pytest.raises(OptionError, match=r"optimizer 'sgd' with .*momentum"):
        fit_toy(toy_data(20), optimizer="sgd(momentum=-1)", epochs=1)


def test_an_optimizer_of_a_plugin_is_used_by_name(fit_toy: Any, toy_data: Any) -> None:
    made = []

    class Plugin:
        @hookimpl
        def register_optimizers(self) -> list[OptimizerFactory]:
            @optimizer
            def rmsprop(groups: Any, *, alpha: float = 0.99) -> torch.optim.Optimizer:
                made.append(alpha)
                return torch.optim.RMSprop(groups, alpha=alpha)

            return [rmsprop]

    plugins().register(Plugin(), "rms")
    fit_toy(toy_data(20), optimizer="rmsprop(alpha=0.9)", schedule="full", epochs=1)
    assert made == [0.9]


# ---- parts of the loss with weights of their own ----


def weights_after(fit_toy: Any, data: Any, task: Toy, **settings: Any) -> dict[str, torch.Tensor]:
    model = fit_toy(
        data, task=task, schedule="linear_probe(learning_rate=0.1)", epochs=2, optimizer="sgd",
        replay=False, **settings,
    )  # fmt: skip
    return model.network.state_dict()


class Weighted(Toy):
    """Counts the samples of class 0 only, and regularizes by a mean."""

    def build_head(self, backbone: Any) -> nn.Module:
        head = super().build_head(backbone)
        head.norm, head.drop = nn.Identity(), nn.Identity()  # equal whatever shares a batch
        return head

    def training_step(self, network: Any, batch: Any) -> Any:
        logits = network.head(network.backbone(batch.images))
        known = (batch.targets == 0).float()
        losses = nn.functional.cross_entropy(logits, batch.targets, reduction="none")
        return {"known": ((losses * known).sum(), known.sum()), "norm": logits.square().mean()}


def test_accumulated_batches_equal_one_large_batch_with_weights_too(
    fit_toy: Any, toy_data: Any
) -> None:
    data, task = toy_data(60), Weighted(augment=False)
    one = weights_after(fit_toy, data, task, batch_size=12)
    four = weights_after(fit_toy, data, task, batch_size=3, accumulate=4)
    for name, tensor in one.items():
        torch.testing.assert_close(four[name], tensor, rtol=1e-5, atol=1e-6)


def test_a_mean_over_known_targets_would_differ(fit_toy: Any, toy_data: Any) -> None:
    """The fault that sums with weights avoid."""

    class Means(Weighted):
        def training_step(self, network: Any, batch: Any) -> Any:
            parts = dict(super().training_step(network, batch))
            value, weight = parts["known"]
            return {**parts, "known": value / weight.clamp(min=1)}

    data, task = toy_data(60), Means(augment=False)
    one = weights_after(fit_toy, data, task, batch_size=12)
    four = weights_after(fit_toy, data, task, batch_size=3, accumulate=4)
    assert any(not torch.allclose(four[n], t, rtol=1e-3, atol=1e-4) for n, t in one.items())


def test_gradients_are_unscaled_once_per_step_and_optimizer(
    fit_toy: Any, toy_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient scaler of float16 refuses to do it a second time."""
    plain, unscaled = Accelerator.unscale_gradients, []

    def unscale(accelerator: Accelerator, optimizer: Any = None) -> None:
        assert optimizer is not None
        unscaled.append(optimizer)
        plain(accelerator, optimizer)

    monkeypatch.setattr(Accelerator, "unscale_gradients", unscale)
    task = watched()
    fit_toy(toy_data(60), task=task, schedule="full", epochs=1, batch_size=12, clip_norm=1.0)
    assert len(unscaled) == len(task.seen)


def test_the_batches_of_a_step_without_an_update_are_passed_over(
    fit_toy: Any, toy_data: Any
) -> None:
    class Rare(Toy):
        seen: ClassVar[list[list[int]]] = []

        def optimizers(self) -> tuple[OptimizerSpec, ...]:
            return (OptimizerSpec(every=2),)

        def batch_sampler(self, samples: Any, *_: Any, **__: Any) -> list[list[list[int]]]:
            return [[[4 * i + j for j in range(4)]] for i in range(len(samples) // 4)]

        def training_step(self, network: Any, batch: Any) -> Any:
            self.seen.append(batch.indices.tolist())
            return super().training_step(network, batch)

    fit_toy(toy_data(30), task=Rare(augment=False), schedule="full", epochs=1, replay=False)
    assert [indices[0] for indices in Rare.seen] == [0, 8, 16]
