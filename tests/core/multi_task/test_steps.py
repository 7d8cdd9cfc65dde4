"""One pass for all heads, each on the samples that have its target."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from visiongraft.data.batch import Batch
from visiongraft.multi_task.task import MultiTask
from visiongraft.task import HeadFit

TARGETS = [
    {"kind": 0, "place": 0.5},
    {"kind": 2},
    {"place": 0.25},
    {"kind": 1, "place": 1.0},
    {"kind": 1},
]


def part_of(batch: Batch, task: MultiTask, rows: list[int]) -> Batch:
    """Return some samples of the batch of ``TARGETS``."""
    own = replace(batch, targets=task.collate([TARGETS[row] for row in rows]))
    for name in ("images", "sizes", "indices"):
        setattr(own, name, getattr(batch, name)[rows])
    return own


def test_the_backbone_runs_once_for_all_heads(task: Any, network_of: Any, batch_of: Any) -> None:
    network, seen = network_of(task), []
    network.backbone.register_forward_hook(lambda *_: seen.append(1))
    network(batch_of(task, TARGETS))
    assert seen == [1]
    network.decode(torch.zeros(2, 3, 16, 16), torch.full((2, 2), 16))
    assert seen == [1, 1]


def test_a_head_learns_from_the_samples_that_have_its_target(
    task: Any, network_of: Any, batch_of: Any
) -> None:
    network, batch = network_of(task), batch_of(task, TARGETS)
    rows = [0, 1, 3, 4]
    logits = network.head["kind"](network.backbone(batch.images[rows]))
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 2, 1, 1]))
    value, weight = network(batch)["kind.entropy"]
    assert weight == 4
    assert value.item() == pytest.approx(4 * expected.item(), rel=1e-5)


@pytest.mark.parametrize("weights", [{"kind": 2.0, "place": 0.5}, "uncertainty"])
def test_small_batches_add_up_to_a_large_one(
    task: Any, network_of: Any, batch_of: Any, weights: Any
) -> None:
    network = network_of(replace(task, weights=weights))
    whole = batch_of(task, TARGETS)
    expected = network(whole)
    halves = [network(part_of(whole, task, rows)) for rows in ([0, 3], [1, 4], [2])]
    assert set().union(*halves) == expected.keys()
    for name, (value, weight) in expected.items():
        found = [parts[name] for parts in halves if name in parts]
        assert sum(part[0].item() for part in found) == pytest.approx(value.item(), abs=1e-5)
        assert sum(part[1] for part in found) == weight


def test_a_batch_without_a_target_of_a_head_has_no_part_of_it(
    task: Any, network_of: Any, batch_of: Any
) -> None:
    network = network_of(replace(task, weights="uncertainty"))
    parts = network(batch_of(task, [{"kind": 0}, {"kind": 1}]))
    assert list(parts) == ["kind.entropy", "kind.uncertainty"]
    sum(value for value, _ in parts.values()).backward()
    for parameter in (*network.head["place"].parameters(), network.loss.log_variances["place"]):
        assert parameter.grad is not None  # as in processes that have such a target
        assert not parameter.grad.any()


def test_heads_with_all_targets_have_the_losses_of_their_tasks(
    task: Any, network_of: Any, batch_of: Any
) -> None:
    complete = replace(task, incomplete=())
    targets = [{"kind": 0, "place": 0.5}, {"kind": 1, "place": 0.0}]
    parts = network_of(complete)(batch_of(task, targets))
    assert all(isinstance(part, torch.Tensor) for part in parts.values())
    alone = network_of(task.tasks["kind"])
    alone.head.load_state_dict(network_of(complete).head["kind"].state_dict())
    own = replace(batch_of(task, targets), targets=torch.tensor([0, 1]))
    assert torch.equal(alone(own)["entropy"], parts["kind.entropy"])


def test_weights_scale_the_parts(task: Any, network_of: Any, batch_of: Any) -> None:
    plain = network_of(task)(batch_of(task, TARGETS))
    scaled = network_of(replace(task, weights={"place": 3.0}))(batch_of(task, TARGETS))
    assert scaled["place.square"][0].item() == pytest.approx(3 * plain["place.square"][0].item())
    assert scaled["kind.entropy"][0].item() == pytest.approx(plain["kind.entropy"][0].item())


def test_learned_uncertainty_follows_the_paper(task: Any, network_of: Any, batch_of: Any) -> None:
    learned = replace(task, weights="uncertainty", incomplete=())
    network = network_of(learned)
    targets = [{"kind": 0, "place": 0.5}, {"kind": 1, "place": 0.0}]
    s = network.loss.log_variances["kind"]
    with torch.no_grad():
        s.fill_(0.3)
    parts = network(batch_of(task, targets))
    plain = network_of(replace(task, incomplete=()))(batch_of(task, targets))["kind.entropy"]
    assert torch.allclose(parts["kind.entropy"], torch.exp(-s) * plain)
    assert torch.allclose(parts["kind.uncertainty"], s / 2)
    sum(parts.values()).backward()
    assert s.grad.item() == pytest.approx(0.5 - (torch.exp(-s) * plain).item(), rel=1e-4)


def test_heads_start_from_the_images_that_have_their_targets(
    task: Any, network_of: Any, batch_of: Any, Color: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[Any, Any] = {}

    def start_head(self: Any, head: Any, samples: Any, first: Any) -> None:
        seen[head] = list(samples), list(samples)

    monkeypatch.setattr(Color, "start_head", start_head)
    network, batch = network_of(task), batch_of(task, TARGETS)
    features = network.backbone(batch.images)
    task.start_head(network.head, [(features, batch.targets), (features, {})])
    for head, rows, targets in (
        ("kind", [0, 1, 3, 4], [0, 2, 1, 1]),
        ("place", [0, 2, 3], [0.5, 0.25, 1.0]),
    ):
        ((own, found),), again = seen[network.head[head]]
        torch.testing.assert_close(own.pooled, features.pooled[rows])
        assert found.tolist() == targets
        assert len(again) == 1, "each iteration begins again"


@pytest.mark.parametrize(("spot", "least"), [(0.7, 0.7), (0.95, 0.9), (None, None)])
def test_heads_have_started_as_well_as_the_worst_of_them(
    task: Any,
    network_of: Any,
    batch_of: Any,
    Color: Any,
    Spot: Any,
    monkeypatch: pytest.MonkeyPatch,
    spot: float | None,
    least: float | None,
) -> None:
    monkeypatch.setattr(Color, "start_head", lambda *_: HeadFit(0.9))
    monkeypatch.setattr(Spot, "start_head", lambda *_: HeadFit(spot))
    network, batch = network_of(task), batch_of(task, TARGETS)
    samples = [(network.backbone(batch.images), batch.targets)]
    assert task.start_head(network.head, samples).accuracy == least


def test_a_head_whose_target_no_chosen_image_has_stays_as_it_is(
    task: Any,
    network_of: Any,
    batch_of: Any,
    Color: Any,
    Spot: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    started = []

    def start_head(self: Any, head: Any, samples: Any, first: Any) -> HeadFit:
        started.append(head)
        return HeadFit(0.9)

    for kind in (Color, Spot):
        monkeypatch.setattr(kind, "start_head", start_head)
    network, batch = network_of(task), batch_of(task, [{"place": 0.5}, {"place": 0.0}])
    assert "kind" in task.incomplete
    samples = [(network.backbone(batch.images), batch.targets)]
    assert task.start_head(network.head, samples) == HeadFit()
    assert started == [network.head["place"]]
    assert "head 'kind' is not fitted in closed form" in caplog.text


def test_heads_that_are_fitted_anew_know_their_own_first_fit(
    task: Any,
    network_of: Any,
    batch_of: Any,
    Color: Any,
    Spot: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = []

    def start_head(self: Any, head: Any, samples: Any, first: Any = None) -> HeadFit:
        known.append(None if first is None else dict(first.facts))
        return HeadFit(0.9, {"factor": 3.0})

    monkeypatch.setattr(Color, "start_head", start_head)
    monkeypatch.setattr(Spot, "start_head", lambda *_, **__: None)
    network, batch = network_of(task), batch_of(task, TARGETS)
    samples = [(network.backbone(batch.images), batch.targets)]
    first = task.start_head(network.head, samples)
    task.start_head(network.head, samples, first=first)
    assert first == HeadFit(None, {"kind": {"factor": 3.0}})
    assert known == [None, {"factor": 3.0}]


def test_heads_start_only_if_all_do(
    task: Any, Color: Any, Spot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not task.starts_head
    monkeypatch.setattr(Color, "starts_head", True)
    assert task.starts_head
    monkeypatch.setattr(Spot, "starts_head", False)
    assert not task.starts_head
