"""What only PyTorch computes for the metrics of a head, and exported files are proved without."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from visiongraft.data.samples import Samples, TargetSamples
from visiongraft.errors import PluginError
from visiongraft.multi_task.task import MultiTask

TARGETS = [{"kind": 0}, {"kind": 2, "place": 0.5}, {"place": 0.25}]


@dataclass(frozen=True)
class Doubled(TargetSamples):
    """Targets in the unit of the head."""


class _Far:
    """Like the metrics of ``spot``, in a unit that ``evaluation_step`` or the target provides."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def update(self, decoded: Any, targets: Any) -> None:
        self.seen += decoded.get("wanted", np.asarray(targets)).tolist()

    def compute(self) -> dict[str, Any]:
        return {"far": float(np.mean(self.seen))}


@pytest.fixture
def unit(Spot: Any) -> Any:
    class Unit(Spot):  # type: ignore[misc]
        name = "unit"

        def evaluation_step(self, network: Any, batch: Any) -> Any:
            place = network.head(network.backbone(batch.images))["place"]
            return {"wanted": batch.targets * 2, "place again": place[:, 0]}

        def proof_samples(self, network: Any, samples: Samples) -> Samples:
            assert next(network.parameters()) is not None and network.head.linear is not None
            return Doubled(samples, tuple(samples.target(i) * 2 for i in range(len(samples))))

        def build_metrics(self) -> Any:
            return _Far()

    return Unit


def test_the_evaluation_step_of_a_head_gets_its_part_of_the_batch(
    unit: Any, Color: Any, network_of: Any, batch_of: Any
) -> None:
    task = MultiTask({"kind": Color(), "place": unit()}, incomplete=("kind", "place"))
    network, batch, seen = network_of(task), batch_of(task, TARGETS), []
    network.backbone.register_forward_hook(lambda *_: seen.append(1))
    found = task.evaluation_step(network, batch)
    assert seen == [1]
    assert found["place.wanted"].tolist() == [0.0, 1.0, 0.5]
    decoded = network.decode(batch.images, batch.sizes)
    assert torch.allclose(found["place.place again"][1:], decoded["place.place"][1:])
    metrics = task.build_metrics()
    metrics.update({k: v.numpy(force=True) for k, v in (decoded | found).items()}, batch.targets)
    assert metrics.compute()["place.far"] == 0.75  # with the targets alone 0.375


def test_heads_without_one_do_not_run_the_backbone_again(
    task: Any, network_of: Any, batch_of: Any
) -> None:
    network, seen = network_of(task), []
    network.backbone.register_forward_hook(lambda *_: seen.append(1))
    assert task.evaluation_step(network, batch_of(task, TARGETS)) == {}
    assert not seen


def test_files_are_proved_on_the_targets_of_each_head(
    unit: Any, Color: Any, network_of: Any
) -> None:
    task = MultiTask({"kind": Color(), "place": unit()})
    images = [np.full((8, 8, 3), i, np.uint8) for i in range(6)]
    data = {
        "kind": [(image, i % 3) for i, image in enumerate(images)],
        "place": [(image, 0.125 * i) for i, image in enumerate(images)],
    }
    samples = task.read_evaluation(data)
    samples = getattr(samples, "samples", samples)
    proved = task.proof_samples(network_of(task), samples)
    before = [samples.target(i) for i in range(len(samples))]
    expected = [{h: v * 2 if h == "place" else v for h, v in own.items()} for own in before]
    assert [proved.target(i) for i in range(len(proved))] == expected
    assert [proved.subset([3, 1]).target(i) for i in (0, 1)] == [expected[3], expected[1]]
    plain = replace(task, heads={"kind": Color()})
    assert plain.proof_samples(network_of(plain), samples) is samples


def test_a_step_without_a_value_per_sample_is_named(
    Color: Any, Spot: Any, network_of: Any, batch_of: Any
) -> None:
    class Mean(Spot):  # type: ignore[misc]
        name = "mean"

        def evaluation_step(self, network: Any, batch: Any) -> Any:
            return {"mean": batch.targets.mean()[None]}

    task = MultiTask({"kind": Color(), "place": Mean()}, incomplete=("kind", "place"))
    with pytest.raises(
        PluginError, match="head 'place': 'mean' of evaluation_step has 1 rows for 2"
    ):
        task.evaluation_step(network_of(task), batch_of(task, TARGETS))
