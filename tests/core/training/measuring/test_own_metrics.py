"""Metrics of torchmetrics are measured beside those of the task."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC, MulticlassF1Score

from tests.core.stopping import StopAt
from visiongraft.errors import CheckpointError, OptionError, PluginError
from visiongraft.training.measuring.own_metrics import OwnMetrics, read_metrics


class Broken(MulticlassAccuracy):
    """Cannot be computed."""

    def compute(self) -> Any:
        raise RuntimeError("no value")


@pytest.fixture(scope="module")
def task(Toy: type[Any]) -> Any:
    @dataclass(frozen=True)
    class Measured(Toy):  # type: ignore[misc]
        """Gives its scores to metrics."""

        name = "measured-toy"

        def metadata(self) -> dict[str, Any]:
            return {"class_names": ["red", "green", "blue"]}

        def metric_inputs(self, name: str, decoded: Any, targets: Any) -> Any:
            return torch.as_tensor(decoded["scores"]), targets

    return Measured(augment=False)


@pytest.fixture(scope="module")
def run(task: Any, fit_toy: Any, toy_data: Any, tmp_path_factory: Any) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("runs") / "run"
    counted = MulticlassAccuracy(num_classes=3)
    counted.update(torch.tensor([0, 0]), torch.tensor([1, 1]))  # must not count in the run
    metrics = {
        "right": counted,
        "auroc": "MulticlassAUROC",
        "f1": "MulticlassF1Score(average=none)",
    }
    select = "highest(validation.auroc)"
    model = fit_toy(toy_data(60), task=task, metrics=metrics, select=select, out=folder)
    assert counted.compute() == 0
    return model, folder


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_each_epoch_has_their_results_which_equal_those_of_the_task(run: Any) -> None:
    for record in history(run[1]):
        found = record["validation"]
        assert found["right"] == pytest.approx(found["share_right"])  # classes are of equal number


def test_results_that_are_no_numbers_are_stated_of_the_epoch_that_is_kept(run: Any) -> None:
    assert len(run[0].facts["metrics"]["f1"]) == 3


def test_select_may_name_one(run: Any) -> None:
    _, folder = run
    records = history(folder)
    kept = [record["epoch"] for record in records if record["best"]][-1]
    values = [record["validation"]["auroc"] for record in records]
    assert values[kept] == max(values)


def test_the_model_is_evaluated_with_them(run: Any, toy_data: Any) -> None:
    results = run[0].evaluate(toy_data(30, seed=1))
    assert results["right"] == pytest.approx(results["share_right"])


def test_a_loaded_model_is_evaluated_with_those_that_are_passed(
    run: Any, task: Any, toy_data: Any
) -> None:
    import visiongraft

    model = visiongraft.load(run[1], task=type(task))
    assert "right" not in model.evaluate(toy_data(9, seed=1))
    assert model.evaluate(toy_data(9, seed=1), metrics="auroc=MulticlassAUROC")["auroc"] > 0.3


def test_run_log_and_card_hold_them(run: Any) -> None:
    _, folder = run
    assert ", auroc " in (folder / "run.log").read_text()
    assert "| auroc |" in (folder / "model" / "README.md").read_text()


def test_a_resumed_run_needs_its_objects_again(
    run: Any, task: Any, fit_toy: Any, toy_data: Any
) -> None:
    with pytest.raises(
        CheckpointError, match=r"the metric 'right' of run .* pass it again as metrics"
    ):
        fit_toy(toy_data(60), task=task, out=run[1], resume=True)


def test_a_resumed_run_refuses_another_class(
    run: Any, task: Any, fit_toy: Any, toy_data: Any
) -> None:
    other = {"right": MulticlassF1Score(num_classes=3)}
    with pytest.raises(
        CheckpointError, match=r"its metric right is .*MulticlassAccuracy.*metrics="
    ):
        fit_toy(toy_data(60), task=task, out=run[1], resume=True, metrics=other)


def test_a_stopped_run_goes_on_with_them(
    task: Any, fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    settings = {"task": task, "metrics": ["MulticlassAUROC"], "epochs": 2, "schedule": "full"}
    settings |= {"checkpoint_every": 1}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    fit_toy(toy_data(30), **settings, out=whole)
    with pytest.raises(KeyboardInterrupt):
        fit_toy(toy_data(30), **settings, out=stopped, callbacks=[StopAt(3)])
    del settings["metrics"]
    fit_toy(toy_data(30), **settings, out=stopped, resume=True)
    assert history(whole) == history(stopped)


def test_several_results_are_named_after_the_metric(task: Any) -> None:
    class Two(MulticlassAccuracy):
        def compute(self) -> Any:
            return {"low": torch.tensor(0.5), "none": torch.tensor(float("nan"))}

    metrics = OwnMetrics.of({"two": Two(num_classes=3)}, task).beside(task)
    metrics.update({"scores": np.eye(3, dtype=np.float32), "label": np.arange(3)}, torch.arange(3))
    found = metrics.compute()
    assert (found["two.low"], found["two.none"]) == (0.5, None)


def test_one_without_targets_has_no_result(task: Any) -> None:
    @dataclass(frozen=True)
    class Without(type(task)):  # type: ignore[misc]
        def metric_inputs(self, name: str, decoded: Any, targets: Any) -> None:
            return None

    metrics = OwnMetrics.of("MulticlassAUROC", task).beside(Without())
    metrics.update({"label": np.arange(3)}, torch.arange(3))
    assert metrics.compute()["MulticlassAUROC"] is None


def test_a_collection_is_read_by_its_names() -> None:
    accuracy = MulticlassAccuracy(num_classes=3)
    found = read_metrics(torchmetrics.MetricCollection({"acc": accuracy}))
    assert list(found) == ["acc"]
    assert list(read_metrics([accuracy, "a=MulticlassAUROC"])) == ["MulticlassAccuracy", "a"]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (3, "metrics is of type int, not a metric of torchmetrics"),
        ({"a": 3}, "metrics: 'a' is a int, not a metric"),
        ({"a": None}, "metrics: 'a' is an object of another run"),
        ({"a b": "MulticlassAUROC"}, "'a b' is not a name"),
        (["MulticlassAUROC"] * 2, "two are named 'MulticlassAUROC'; pass a dict"),
        ("MulticlassAUROCC", "torchmetrics has no metric 'MulticlassAUROCC'; did you mean"),
        ("MulticlassAUROC(number=3)", r"cannot be made: ValueError: .*`number`"),
        ("MulticlassAUROC(", "neither 'name' nor 'name\\(option=value\\)'"),
        (
            "BinaryAUROC",
            r"metric 'BinaryAUROC' \(BinaryAUROC\) does not fit what the task predicts",
        ),
        ({"share_right": "MulticlassAUROC"}, "the task has a metric 'share_right' of its own"),
        (Broken(num_classes=3), r"metric 'Broken' \(Broken\) does not fit .* no value"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_training(
    metrics: Any, message: str, task: Any, fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=message):
        fit_toy(toy_data(30), task=task, metrics=metrics, out=tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_task_without_pairs_is_named(Toy: type[Any], fit_toy: Any, toy_data: Any) -> None:
    with pytest.raises(OptionError, match="task 'toy' has no predictions and targets in the form"):
        fit_toy(toy_data(30), metrics="MulticlassAUROC(num_classes=3)")


def test_names_need_torchmetrics_and_objects_do_not_import_it(
    task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(PluginError, match=r'pip install "visiongraft\[metrics\]"'):
        OwnMetrics.of("MulticlassAUROC", task)


def test_margins_of_error_know_them(task: Any, fit_toy: Any, toy_data: Any, tmp_path: Path) -> None:
    select = "best(validation.auroc >= 0.1, confidence=0.9)"
    auroc = {"auroc": MulticlassAUROC(num_classes=3)}
    model = fit_toy(
        toy_data(90), task=task, metrics=auroc, select=select, epochs=1, schedule="full"
    )
    assert model.facts["selection"]["select"] == select


def test_groups_are_measured_with_them(run: Any, task: Any, toy_data: Any) -> None:
    from visiongraft.training.evaluation import decode_samples, measure_groups

    model, _ = run
    samples = task.read_evaluation(toy_data(12, seed=1))
    decoded = decode_samples(model.network, samples, 4)
    groups = measure_groups(task, samples, ["a", "b"] * 6, decoded, model.metrics)["groups"]
    assert groups["a"]["right"] == pytest.approx(groups["a"]["share_right"])


def test_results_of_the_task_that_begin_like_a_metric_are_not_its(task: Any) -> None:
    class OfHeads:
        def update(self, decoded: Any, targets: Any) -> None: ...

        def compute(self) -> dict[str, Any]:
            return {"species.accuracy": 0.5}

    @dataclass(frozen=True)
    class Heads(type(task)):  # type: ignore[misc]
        def build_metrics(self) -> Any:
            return OfHeads()

    own = OwnMetrics.of({"species": MulticlassAccuracy(num_classes=3)}, task)
    metrics = own.beside(Heads())
    metrics.update({"scores": np.eye(3, dtype=np.float32)}, torch.arange(3))
    assert {name: own.names(name) for name in metrics.compute()} == {
        "species.accuracy": False,
        "species": True,
    }
