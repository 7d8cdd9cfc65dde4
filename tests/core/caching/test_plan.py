"""The trial before a cached phase: a task for which the cache would not do is found, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.core.conftest import Toy, ToyBackbone
from visiongraft.backbone import Features
from visiongraft.caching.plan import plan_replay
from visiongraft.data.batch import Batch
from visiongraft.errors import ReplayError
from visiongraft.network import Network
from visiongraft.schedules import Phase
from visiongraft.training.trainable import apply_phase

Step = Callable[[Any, Network, Batch], dict[str, Tensor]]


def entropy(network: Network, batch: Batch) -> dict[str, Tensor]:
    parts: dict[str, Tensor] = network.loss(
        network.head(network.backbone(batch.images)), batch.targets
    )
    return parts


def with_step(step: Step) -> Toy:
    """Make a toy task with another training step."""
    kind = type("Stepping", (Toy,), {"training_step": step})
    return kind(augment=False)


def plan_for(task: Toy, trainable: str = "head") -> Any:
    torch.manual_seed(0)
    network = Network(ToyBackbone(), task)
    apply_phase(network, Phase(2, trainable))
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, torch.arange(3), torch.full((3, 2), 16), torch.arange(3))
    return plan_replay(network, batch)


# ---- what does not depend on the images ----


def frozen_values(backbone: ToyBackbone, images: Tensor) -> list[Any]:
    network = Network(backbone, Toy(augment=False))
    apply_phase(network, Phase(2, "head"))
    targets, sizes = torch.arange(len(images)), torch.full((len(images), 2), 16)
    (unit,) = plan_replay(network, Batch(images, targets, sizes, targets)).units
    return list(unit.values)


def test_values_of_equal_images_are_stored_for_each_of_them() -> None:
    values = frozen_values(ToyBackbone(), torch.zeros(3, 3, 16, 16))
    assert any(value.needed for value in values)
    assert all(value.constant is None for value in values)


def test_so_are_values_that_are_equal_since_the_backbone_has_collapsed() -> None:
    backbone = ToyBackbone()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.zero_()
    values = frozen_values(backbone, torch.rand(3, 3, 16, 16))
    assert any(value.needed for value in values)
    assert all(value.constant is None for value in values)


def test_what_is_the_same_for_any_images_is_constant() -> None:
    class WithTable(ToyBackbone):
        def forward(self, images: Tensor) -> Features:
            maps, pooled = super().forward(images)
            return Features((*maps, torch.ones(3, 5)), pooled)

    *values, table, pooled = frozen_values(WithTable(), torch.rand(3, 3, 16, 16))
    assert table.constant is not None and table.constant.shape == (3, 5)
    assert all(value.constant is None for value in (*values, pooled))


# ---- what reads the images ----


def reads_the_images(task: Any, network: Network, batch: Batch) -> dict[str, Tensor]:
    """Weigh the loss by how bright the images are, as a perceptual loss might."""
    return {**entropy(network, batch), "brightness": batch.images.square().mean()}


def looks_twice(task: Any, network: Network, batch: Batch) -> dict[str, Tensor]:
    """Pull an image and its mirror image together."""
    apart = network.backbone(batch.images).pooled - network.backbone(batch.images.flip(3)).pooled
    return {**entropy(network, batch), "apart": apart.square().mean()}


def calls_a_stage(task: Any, network: Network, batch: Batch) -> dict[str, Tensor]:
    return {
        **entropy(network, batch),
        "stem": network.backbone.blocks["stem"](batch.images).square().mean(),
    }


@pytest.mark.parametrize(
    ("step", "operation"),
    [(reads_the_images, "square"), (looks_twice, "flip"), (calls_a_stage, "conv2d")],
)
def test_a_training_step_that_reads_the_images_is_never_cached(step: Step, operation: str) -> None:
    reason = plan_for(with_step(step)).reason
    assert reason.startswith("the task reads the images themselves")
    assert operation in reason


def test_an_inference_step_that_reads_the_images_is_never_cached() -> None:
    class Mirrors(Toy):
        def inference_step(self, network: Any, images: Tensor) -> Tensor:
            looks = [network.head(network.backbone(x)) for x in (images, images.flip(3))]
            return (looks[0] + looks[1]) / 2

    assert "reads the images themselves (torch.Tensor.flip)" in plan_for(Mirrors()).reason


def test_a_run_whose_step_reads_the_images_trains_on_images(
    fit_toy: Any, toy_data: Any, tmp_path: Any
) -> None:
    settings = {"schedule": "linear_probe", "epochs": 2, "task": with_step(reads_the_images)}
    model = fit_toy(toy_data(20), out=tmp_path / "run", **settings)
    log = (tmp_path / "run" / "run.log").read_text()
    assert "no replay: the task reads the images themselves (torch.Tensor.square)" in log
    run = [r["train"]["brightness"] for r in read_history(tmp_path / "run")]
    assert min(run) > 0.1
    assert model is not None
    with pytest.raises(ReplayError, match="impossible: the task reads the images themselves"):
        fit_toy(toy_data(20), replay=True, **settings)


def read_history(folder: Any) -> list[dict[str, Any]]:
    import json

    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_step_that_reads_the_images_later_on_stops_with_a_clear_error(
    fit_toy: Any, toy_data: Any
) -> None:
    steps = 0

    def later(task: Any, network: Network, batch: Batch) -> dict[str, Tensor]:
        nonlocal steps
        steps += 1
        return (reads_the_images if steps > 20 else entropy_of)(task, network, batch)

    with pytest.raises(ReplayError, match=r"^torch\.Tensor\.square reads the images") as error:
        fit_toy(toy_data(30), task=with_step(later), schedule="linear_probe", epochs=30)
    assert error.value.exit_code == 2


def entropy_of(task: Any, network: Network, batch: Batch) -> dict[str, Tensor]:
    return entropy(network, batch)


# ---- what the cache cannot answer ----


def test_a_hook_on_a_frozen_layer_is_not_answered_with_old_values() -> None:
    """The hook does not run while its stage is cached, and would keep values of other images."""

    class Taps(Toy):
        def build_head(self, backbone: Any) -> nn.Module:
            head: Any = super().build_head(backbone)
            first = backbone.blocks["stem"][0]
            first.register_forward_hook(lambda m, a, out: setattr(head, "tapped", out.detach()))
            return head  # type: ignore[no-any-return]

        def training_step(self, network: Any, batch: Batch) -> dict[str, Tensor]:
            parts = entropy(network, batch)
            return {**parts, "tap": network.head.tapped.square().mean()}

    assert plan_for(Taps()).reason == "replayed 'tap' of the training step differs from computed"


def test_features_that_are_compared_only_are_not_left_out_unnoticed() -> None:
    """NaN in place of a value does not reach a loss that merely compares it."""

    def counts(task: Any, network: Network, batch: Batch) -> dict[str, Tensor]:
        features = network.backbone(batch.images)
        bright = (features.maps[1] > 0).float().mean()
        return {**entropy(network, batch), "bright": bright}

    plan = plan_for(with_step(counts))
    assert plan.reason == "replayed 'bright' of the training step differs from computed"


def test_a_step_that_draws_random_numbers_is_cached_all_the_same() -> None:
    def noisy(task: Any, network: Network, batch: Batch) -> dict[str, Tensor]:
        features = network.backbone(batch.images)
        drawn = features._replace(pooled=features.pooled + torch.randn_like(features.pooled))
        return network.loss(network.head(drawn), batch.targets)  # type: ignore[no-any-return]

    assert plan_for(with_step(noisy)).reason == ""


@pytest.mark.parametrize("trainable", ["head", "stage1"])
def test_a_second_pass_on_other_images_is_computed(
    fit_toy: Any, toy_data: Any, tmp_path: Any, trainable: str
) -> None:
    """Images that the task made itself are passed through the real stages."""

    def uniform(task: Any, network: Network, batch: Batch) -> dict[str, Tensor]:
        shade = torch.linspace(0, 1, len(batch.images)).view(-1, 1, 1, 1)
        shades = batch.images.new_ones(batch.images.shape) * shade
        away = network.backbone(shades).pooled.square().mean()
        return {**entropy(network, batch), "away": away}

    schedule = "linear_probe" if trainable == "head" else "last_n(n=2)"
    for name, replay in (("cached", True), ("computed", False)):
        fit_toy(
            toy_data(20),
            task=with_step(uniform),
            schedule=schedule,
            epochs=3,
            optimizer="sgd",
            replay=replay,
            out=tmp_path / name,
        )
    cached, computed = (read_history(tmp_path / name) for name in ("cached", "computed"))
    assert all(record["replayed"] for record in cached)
    for one, other in zip(cached, computed, strict=True):
        assert one["train"]["away"] == pytest.approx(other["train"]["away"], rel=1e-3)
        assert one["train"]["loss"] == pytest.approx(other["train"]["loss"], rel=1e-2)


def test_a_step_that_fails_on_few_images_is_not_cached_and_does_not_stop_the_run(
    fit_toy: Any, toy_data: Any, tmp_path: Any
) -> None:
    def pairs(task: Any, network: Network, batch: Batch) -> dict[str, Tensor]:
        if len(batch.images) < 4:
            raise ValueError("needs four images")
        return entropy(network, batch)

    settings = {"task": with_step(pairs), "schedule": "linear_probe", "epochs": 2}
    fit_toy(toy_data(20), out=tmp_path / "run", **settings)
    log = (tmp_path / "run" / "run.log").read_text()
    assert "the training step cannot be tried on 3 images: needs four images" in log


def test_trying_a_step_leaves_what_it_writes_as_it_was() -> None:
    """A teacher that follows the head, say, and gradients that the step computes itself."""

    def follows(task: Any, network: Network, batch: Batch) -> dict[str, Tensor]:
        parts = entropy(network, batch)
        parts["entropy"].backward(retain_graph=True)
        with torch.no_grad():
            network.head.linear.weight.mul_(0.9)
        return parts

    torch.manual_seed(0)
    network = Network(ToyBackbone(), with_step(follows))
    apply_phase(network, Phase(2, "head"))
    before = {n: t.clone() for n, t in network.state_dict().items()}
    images = torch.randn(3, 3, 16, 16)
    plan_replay(network, Batch(images, torch.arange(3), torch.full((3, 2), 16), torch.arange(3)))
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
