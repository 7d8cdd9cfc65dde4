"""Evaluation: the exported modules measure every sample once, whatever the batches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visiongraft.data.batch import Batch
from visiongraft.data.groups import group_names
from visiongraft.data.images import DatasetSamples
from visiongraft.data.loader import BatchLoader, SampleDataset
from visiongraft.data.samples import Samples, WrappedSamples
from visiongraft.errors import OptionError, TrainingError
from visiongraft.hookspecs import hookimpl
from visiongraft.network import InferenceGraph, Network
from visiongraft.task import Arrays
from visiongraft.training.evaluation import (
    decode_batches,
    measure,
    measure_all,
    scalars,
    to_arrays,
)

COUNT = 12


def loaded(network: Network, data: Any, plan: Sequence[Sequence[int]]) -> list[Batch]:
    dataset = SampleDataset(DatasetSamples.of(data), network.preprocess_on_cpu())
    loader = BatchLoader(dataset, network.task.collate)
    return list(loader.batches([[(i, 0) for i in batch] for batch in plan]))


def evaluate(network: Network, batches: Sequence[Batch]) -> dict[str, Any]:
    results = ((decoded, batch.targets) for decoded, batch in decode_batches(network, batches))
    return measure(network.task, results)


def test_the_result_is_what_the_inference_graph_gets_right(
    toy_network: Network, toy_data: Any
) -> None:
    data = toy_data(COUNT)
    results = evaluate(toy_network, loaded(toy_network, data, [range(5), range(5, COUNT)]))
    graph = InferenceGraph(toy_network).eval()
    images = torch.from_numpy(np.stack([image for image, _ in data]))
    labels = graph(images)["label"].numpy()
    right = int((labels == [target for _, target in data]).sum())
    assert 0 < right < COUNT  # so that the comparison can fail
    assert results == {"share_right": right / COUNT, "seen": COUNT, "table": [[right]]}


@given(cuts=st.sets(st.integers(1, COUNT - 1)), order=st.permutations(range(COUNT)))
@settings(max_examples=25)
def test_neither_batches_nor_their_order_change_the_result(
    toy_network: Network, toy_data: Any, cuts: set[int], order: list[int]
) -> None:
    data = toy_data(COUNT)
    edges = [0, *sorted(cuts), COUNT]
    plan = [order[a:b] for a, b in pairwise(edges)]
    assert evaluate(toy_network, loaded(toy_network, data, plan)) == evaluate(
        toy_network, loaded(toy_network, data, [range(COUNT)])
    )


def test_a_network_left_in_training_is_evaluated_like_any_other(
    toy_network: Network, toy_data: Any
) -> None:
    batches = loaded(toy_network, toy_data(COUNT), [range(COUNT)])
    expected = evaluate(toy_network.eval(), batches)
    before = {name: tensor.clone() for name, tensor in toy_network.state_dict().items()}
    assert evaluate(toy_network.train(), batches) == expected
    assert not toy_network.training
    assert all(torch.equal(t, before[n]) for n, t in toy_network.state_dict().items())


def test_metrics_get_arrays_and_the_targets_of_the_same_samples(
    toy_network: Network, toy_data: Any
) -> None:
    data = toy_data(COUNT)
    plan = [[7, 0, 3], [11]]
    pairs = list(decode_batches(toy_network, loaded(toy_network, data, plan)))
    assert [batch.indices.tolist() for _, batch in pairs] == plan
    for (decoded, batch), indices in zip(pairs, plan, strict=True):
        assert all(isinstance(value, np.ndarray) for value in decoded.values())
        assert [len(value) for value in decoded.values()] == [len(indices)] * 2
        assert batch.targets.tolist() == [data[i][1] for i in indices]


def test_metrics_find_what_the_evaluation_step_computes_and_predictions_do_not(
    toy_network: Network, toy_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def further(task: Any, network: Network, batch: Batch) -> dict[str, torch.Tensor]:
        assert not network.training and not torch.is_grad_enabled()
        return {"brightness": batch.images.mean((1, 2, 3))}

    monkeypatch.setattr(type(toy_network.task), "evaluation_step", further)
    batches = loaded(toy_network, toy_data(COUNT), [range(5)])
    ((decoded, _),) = decode_batches(toy_network, batches)
    assert np.allclose(decoded["brightness"], batches[0].images.mean((1, 2, 3)))
    ((decoded, _),) = decode_batches(toy_network, batches, for_metrics=False)
    assert "brightness" not in decoded


def test_nothing_keeps_a_gradient(toy_network: Network, toy_data: Any) -> None:
    seen = []
    hook = toy_network.head.register_forward_hook(lambda m, a, out: seen.append(out.requires_grad))
    evaluate(toy_network, loaded(toy_network, toy_data(COUNT), [range(COUNT)]))
    hook.remove()
    assert seen == [False]
    assert torch.is_grad_enabled()


def test_arrays_are_made_of_tensors_that_need_gradients_too() -> None:
    arrays = to_arrays({"scores": torch.ones(2, requires_grad=True), "label": torch.tensor([1])})
    assert arrays["scores"].tolist() == [1.0, 1.0]
    assert arrays["label"].dtype == np.int64


def test_only_plain_numbers_are_scalars() -> None:
    results = {
        "accuracy": 0.5,
        "images": 3,
        "score": np.float64(0.25),
        "good": True,
        "per_class": {"cat": 1.0},
        "table": [[1]],
        "name": "x",
        "nothing": None,
    }
    assert scalars(results) == {"accuracy": 0.5, "images": 3.0, "score": 0.25}
    assert all(type(value) is float for value in scalars(results).values())


# ---- the headline decides which epoch is best ----


def scripted(Toy: Any, values: Sequence[Any], better: str = "higher") -> Any:
    """Make a task whose headline takes these values, one per epoch."""
    left = iter(values)

    class Scripted:
        def update(self, decoded: Arrays, targets: Any) -> None: ...

        def compute(self) -> dict[str, Any]:
            return {"share_right": next(left)}

    class ScriptedTask(Toy):
        def build_metrics(self) -> Scripted:
            return Scripted()

    ScriptedTask.better = better
    return ScriptedTask(augment=False)


NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "better", "best"),
    [
        ([0.1, 0.3, 0.2], "higher", 1),
        ([0.1, 0.3, 0.2], "lower", 0),
        ([0.3, 0.3, 0.3], "higher", 0),  # the first of equals
        ([0.1, NAN, 0.2], "higher", 2),
        ([0.1, NAN, 0.05], "higher", 0),
        ([NAN, 0.1, NAN], "higher", 1),
        ([NAN, 0.2, 0.1], "lower", 2),
        ([NAN, NAN, NAN], "higher", 0),
        ([-float("inf"), NAN, 0.0], "higher", 2),
    ],
)
def test_the_best_epoch_is_the_first_with_the_best_headline(
    fit_toy: Any, toy_data: Any, Toy: Any, values: list[float], better: str, best: int
) -> None:
    records = []

    class Callback:
        @hookimpl
        def epoch_ended(self, record: dict[str, Any]) -> None:
            records.append(record["best"])

    task = scripted(Toy, values, better)
    model = fit_toy(
        toy_data(20), task=task, schedule="linear_probe", epochs=3, callbacks=[Callback()]
    )
    assert model.facts["metrics"]["epoch"] == best
    assert max(i for i, better_now in enumerate(records) if better_now) == best


@pytest.mark.parametrize("value", [None, "good", [0.5]], ids=str)
def test_a_headline_that_is_not_a_number_stops_the_run_in_one_line(
    fit_toy: Any, toy_data: Any, Toy: Any, value: Any
) -> None:
    with pytest.raises(TrainingError, match="metrics lack its headline 'share_right'"):
        fit_toy(toy_data(20), task=scripted(Toy, [value]), schedule="linear_probe", epochs=1)


def test_evaluating_a_model_reproduces_its_best_epoch(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    model = fit_toy(toy_data(30), out=tmp_path / "run", epochs=3)
    validation = model.validation
    items = [(validation.load(i), validation.target(i)) for i in range(len(validation))]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    best = json.loads(lines[model.facts["metrics"]["epoch"]])["validation"]
    again = model.evaluate(items, batch_size=4)
    assert {name: again[name] for name in best} == best


# ---- groups ----


@dataclass(frozen=True)
class FromSites(WrappedSamples):
    """Samples of two sites, and some of an unknown one."""

    def attributes(self, index: int) -> dict[str, str]:
        return {} if index % 4 == 3 else {"site": "ab"[index % 2]}


@given(cuts=st.sets(st.integers(1, COUNT - 1)))
@settings(max_examples=10)
def test_each_group_is_measured_as_if_it_were_alone(
    toy_network: Network, toy_data: Any, cuts: set[int]
) -> None:
    data = toy_data(COUNT)
    samples = FromSites(DatasetSamples.of(data))
    plan = [range(a, b) for a, b in pairwise([0, *sorted(cuts), COUNT])]
    decoded = list(decode_batches(toy_network, loaded(toy_network, data, plan)))
    results = [(arrays, batch.targets, batch.indices.tolist()) for arrays, batch in decoded]
    found = measure_all(toy_network.task, samples, "site", results)
    groups = found.pop("groups")
    assert found == measure_all(toy_network.task, samples, None, results)
    values = group_names(samples, "site")
    assert list(groups) == ["", "a", "b"]
    for value, metrics in groups.items():
        own = [item for item, each in zip(data, values, strict=True) if each == value]
        alone = evaluate(toy_network, loaded(toy_network, own, [range(len(own))]))
        assert metrics == {**alone, "images": len(own)}


def test_subsets_keep_the_attributes(toy_data: Any) -> None:
    samples: Samples = FromSites(DatasetSamples.of(toy_data(4))).subset([2, 1, 3])
    assert group_names(samples, "site") == ["a", "b", ""]


def test_an_attribute_that_no_sample_has_is_refused(toy_data: Any) -> None:
    plain = DatasetSamples.of(toy_data(4))
    with pytest.raises(OptionError, match="did you mean 'site'"):
        group_names(FromSites(plain), "sites", "by")
    with pytest.raises(OptionError, match="by='site': no sample has this attribute; a table may"):
        group_names(plain, "site", "by")
