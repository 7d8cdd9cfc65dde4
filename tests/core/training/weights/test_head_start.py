"""Heads that tasks start from, and end with, the features of training images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import visiongraft
from tests.core.stopping import StopAt
from visiongraft.errors import PluginError, ScheduleError
from visiongraft.schedules import STARTED_RATE, TUNING_RATE, Phase, schedule
from visiongraft.task import HeadFit
from visiongraft.training.weights import head_start


@pytest.fixture
def Starting(Toy: Any) -> Any:
    """A task that records what it sees, and starts its head at a value that marks it."""

    class Starting(Toy):
        seen: ClassVar[list[Any]] = []

        starts_head = True

        def start_head(self, head: Any, samples: Any, first: Any = None) -> None:
            pairs = [(features.pooled.clone(), targets) for features, targets in samples]
            self.seen.append(tuple(torch.cat(values) for values in zip(*pairs, strict=True)))
            head.linear.weight.fill_(0.25)

    return Starting


class FirstHead:
    """Keeps the weight of the head at the end of the first step."""

    weight: Any = None

    @visiongraft.hookimpl
    def step_ended(self, run: Any) -> None:
        if self.weight is None:
            self.weight = run.network.head.linear.weight.detach().clone()


@schedule
def all_slowly(stages: Any, epochs: int) -> Any:
    yield Phase(epochs, "all", 1e-6)


@schedule
def stages_alone(stages: Any, epochs: int) -> Any:
    yield Phase(epochs, (stages[-1],), 1e-6)


SLOW = {"weights": "pretrained", "schedule": all_slowly, "epochs": 1}


def test_the_task_starts_the_head_before_the_first_step(fit_toy, toy_data, Starting):
    first = FirstHead()
    fit_toy(toy_data(20), task=Starting(), callbacks=[first], **SLOW)
    assert len(Starting.seen) == 1
    torch.testing.assert_close(first.weight, torch.full_like(first.weight, 0.25), atol=1e-4, rtol=0)


def test_it_sees_training_images_in_order_and_without_augmentation(fit_toy, toy_data, Starting):
    model = fit_toy(toy_data(20), task=Starting(augment=True), **SLOW)
    ((features, targets),) = Starting.seen
    splits = model.task.read(toy_data(20))
    images = torch.stack([torch.from_numpy(splits.train.load(i)) for i in range(len(splits.train))])
    assert targets.tolist() == [splits.train.target(i) for i in range(len(splits.train))]
    model.network.eval()
    with torch.no_grad():
        expected = model.network.backbone(model.network.preprocess(images)).pooled
    torch.testing.assert_close(
        features, expected, atol=1e-3, rtol=1e-3
    )  # it trained a little since


def test_cached_features_give_the_same_start(fit_toy, toy_data, Starting):
    for replay in (True, False):
        fit_toy(
            toy_data(20),
            task=Starting(augment=False),
            weights="pretrained",
            replay=replay,
            epochs=2,
        )
    (cached, _), (computed, _) = Starting.seen
    torch.testing.assert_close(cached, computed)


def test_of_many_images_it_sees_some(fit_toy, toy_data, Starting, monkeypatch):
    monkeypatch.setattr(head_start, "MOST_IMAGES", 5)
    fit_toy(toy_data(20), task=Starting(), **SLOW)
    ((features, targets),) = Starting.seen
    assert len(features) == len(targets) == 5


def test_averaged_weights_begin_with_it(fit_toy, toy_data, Starting):
    model = fit_toy(toy_data(20), task=Starting(), ema=0.999, **SLOW)
    weight = model.network.head.linear.weight
    torch.testing.assert_close(weight, torch.full_like(weight, 0.25), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "settings",
    [{"weights": None}, {"schedule": stages_alone}],
    ids=["random backbone", "head that does not train"],
)
def test_nothing_is_computed_for(fit_toy, toy_data, Starting, settings):
    fit_toy(toy_data(20), task=Starting(), **{**SLOW, **settings})
    assert not Starting.seen


def test_a_head_that_continues_is_kept(fit_toy, toy_data, Starting):
    model = fit_toy(toy_data(20), task=Starting(), **SLOW)
    visiongraft.fit(toy_data(20), start=model, schedule=all_slowly, epochs=1, callbacks=())
    assert len(Starting.seen) == 1


def test_a_resumed_run_does_not_start_again(fit_toy, toy_data, Starting, tmp_path: Path):
    settings = {**SLOW, "epochs": 2, "checkpoint_every": 1}
    with pytest.raises(KeyboardInterrupt):
        fit_toy(toy_data(20), task=Starting(), out=tmp_path, callbacks=[StopAt(2)], **settings)
    fit_toy(toy_data(20), task=Starting(), out=tmp_path, resume=True, **settings)
    assert len(Starting.seen) == 1


@pytest.mark.parametrize("stop", [None, 1, 3])
def test_how_right_it_was_decides_the_rate_of_what_follows(
    fit_toy, toy_data, Starting, tmp_path: Path, monkeypatch, stop
):
    monkeypatch.setattr(Starting, "start_head", lambda *_: HeadFit(0.9))
    settings = {"weights": "pretrained", "schedule": "lp_ft", "epochs": 4, "out": tmp_path}
    settings["checkpoint_every"] = 1
    if stop is not None:
        with pytest.raises(KeyboardInterrupt):
            fit_toy(toy_data(20), task=Starting(), callbacks=[StopAt(stop)], **settings)
        settings["resume"] = True
    fit_toy(toy_data(20), task=Starting(), **settings)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert {record["head_start"]["accuracy"] for record in records} == {0.9}
    assert records[0]["learning_rate"] == STARTED_RATE
    assert records[-1]["learning_rate"] == pytest.approx(0.5 * TUNING_RATE)
    assert "90.0% of left-out images right" in records[-1]["reason"]


def test_the_head_alone_then_trains_at_a_lower_rate(fit_toy, toy_data, Starting, tmp_path: Path):
    settings = {"weights": "pretrained", "epochs": 2, "out": tmp_path}
    fit_toy(toy_data(20), task=Starting(), schedule="lp_ft(learning_rate=1e-3)", **settings)
    stored = json.loads((tmp_path / "config.json").read_text())["schedule"]
    assert stored["options"] == {"learning_rate": 1e-3, "probe_learning_rate": STARTED_RATE}


@pytest.mark.parametrize("schedule", ["lp_ft", "lp_ft(probe_learning_rate=0.01)"])
def test_a_run_resumes_with_the_schedule_that_was_passed(
    fit_toy, toy_data, Starting, tmp_path: Path, schedule: str
):
    settings = {"weights": "pretrained", "epochs": 2, "out": tmp_path, "schedule": schedule}
    data = toy_data(20)
    fit_toy(data, task=Starting(), **settings)
    fit_toy(data, task=Starting(), resume=True, **settings)
    with pytest.raises(visiongraft.VisiongraftError, match="different settings"):
        fit_toy(data, task=Starting(), resume=True, **{**settings, "schedule": "gradual"})


def test_a_range_test_sweeps_the_head_that_training_begins_with(toy_data, Starting):
    settings = {"task": Starting(), "backbone": "toys/toy", "batch_size": 8, "steps": 20}
    sweep = visiongraft.lr_find(toy_data(20), **settings, schedule="full", device="cpu")
    assert len(Starting.seen) == 1
    assert len(sweep.losses) > 1


def test_a_range_test_of_a_later_phase_trains_the_head_at_the_rate_of_fit(
    toy_data, Starting, monkeypatch
):
    rates = []
    plain = visiongraft.training.engine.Engine.run_phase

    def watch(engine, index, phase, checkpoint=None):
        rates.append(phase.learning_rate)
        plain(engine, index, phase, checkpoint)

    monkeypatch.setattr(visiongraft.training.engine.Engine, "run_phase", watch)
    settings = {"task": Starting(), "backbone": "toys/toy", "batch_size": 8, "steps": 20}
    visiongraft.lr_find(toy_data(20), **settings, phase=2, epochs=4, device="cpu")
    assert rates == [STARTED_RATE]


def test_a_range_test_of_a_fitted_head_alone_warns_and_passes_on_only_what_the_user_set(
    toy_data, Starting
):
    settings = {
        "task": Starting(),
        "backbone": "toys/toy",
        "batch_size": 8,
        "steps": 20,
        "device": "cpu",
    }
    sweep = visiongraft.lr_find(toy_data(20), **settings)
    assert sweep.phases == ("head", "all")
    assert sweep.settings == "lp_ft(probe_learning_rate={rate})"
    assert "fitted to these training images already" in sweep.caution
    assert visiongraft.lr_find(toy_data(20), **settings, schedule="full").caution == ""
    assert visiongraft.lr_find(toy_data(20), **settings, weights=None).caution == ""


def test_a_range_test_of_a_head_that_is_fitted_anew_warns_as_well(toy_data, Refitting):
    settings = {"task": Refitting(), "backbone": "toys/toy", "batch_size": 8, "steps": 20}
    sweep = visiongraft.lr_find(toy_data(20), **settings, phase=3, epochs=3, device="cpu")
    assert sweep.phases == ("head", "all", "head")
    assert sweep.caution


# ---- heads that are fitted anew ----


@pytest.fixture
def Refitting(Starting: Any) -> Any:
    """A task whose heads may be fitted anew."""

    class Refitting(Starting):
        seen: ClassVar[list[Any]] = []

        refits_head = True

    return Refitting


@schedule
def refit_at_once(stages: Any, epochs: int) -> Any:
    yield Phase(epochs, "all", 1e-2, refit_head=True)


LP_FT: dict[str, Any] = {"weights": "pretrained", "schedule": "lp_ft", "epochs": 4}


def test_lp_ft_fits_the_head_anew_to_what_the_backbone_has_learned(fit_toy, toy_data, Refitting):
    model = fit_toy(toy_data(20), task=Refitting(), select="last", **LP_FT)
    assert len(Refitting.seen) == 2
    (begun, targets), (learned, again) = Refitting.seen
    assert targets.tolist() == again.tolist()
    assert not torch.equal(begun, learned)
    images = torch.stack([torch.from_numpy(image) for image, _ in toy_images(model, toy_data(20))])
    model.network.eval()
    with torch.no_grad():  # the backbone has not changed since
        expected = model.network.backbone(model.network.preprocess(images)).pooled
    torch.testing.assert_close(learned, expected, atol=1e-5, rtol=1e-5)
    weight = model.network.head.linear.weight
    torch.testing.assert_close(weight, torch.full_like(weight, 0.25), atol=5e-3, rtol=0)


def toy_images(model: Any, data: Any) -> list[tuple[Any, Any]]:
    train = model.task.read(data).train
    return [(train.load(i), train.target(i)) for i in range(len(train))]


@pytest.mark.parametrize(
    "settings",
    [
        {"ema": 0.9},
        {"swa": 2},
        {"keep_epochs": 2},
        {"transfer_loss": "l2_sp"},
        {"groups": lambda name: "ab"[sum(name.encode()) % 2], "group_training": "reweight"},
        {"epochs": 2},
        {"schedule": "lp_ft(refit=False)"},
        {"schedule": "gradual"},
        {"schedule": "linear_probe"},
    ],
    ids=lambda settings: " and ".join(settings),
)
def test_it_is_not_fitted_anew_with(fit_toy, toy_data, Refitting, tmp_path: Path, settings):
    fit_toy(toy_data(20), task=Refitting(), out=tmp_path, **{**LP_FT, **settings})
    assert len(Refitting.seen) == 1


def test_nor_if_there_are_more_images_than_it_is_fitted_to(
    fit_toy, toy_data, Refitting, monkeypatch
):
    monkeypatch.setattr(head_start, "MOST_IMAGES", 5)
    fit_toy(toy_data(20), task=Refitting(), **LP_FT)
    assert len(Refitting.seen) == 1


def test_nor_for_a_task_that_only_starts_heads(fit_toy, toy_data, Starting):
    fit_toy(toy_data(20), task=Starting(), **LP_FT)
    assert len(Starting.seen) == 1


@pytest.mark.parametrize("stop", [1, 8, 11, 12, 13])
def test_a_run_that_was_interrupted_ends_with_the_same_head(
    fit_toy, toy_data, Refitting, tmp_path: Path, stop: int
):
    settings = {**LP_FT, "checkpoint_every": 1, "select": "last", "batch_size": 4}
    whole = fit_toy(toy_data(20), task=Refitting(), out=tmp_path / "whole", **settings)
    parts = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        fit_toy(toy_data(20), task=Refitting(), out=parts, callbacks=[StopAt(stop)], **settings)
    resumed = fit_toy(toy_data(20), task=Refitting(), out=parts, resume=True, **settings)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name


class LastWeights:
    """Keeps the backbone before the first step, and the records of epochs."""

    def __init__(self) -> None:
        self.backbone: dict[str, Any] = {}
        self.records: list[dict[str, Any]] = []

    @visiongraft.hookimpl
    def run_started(self, run: Any) -> None:
        state = run.network.backbone.state_dict()
        self.backbone = self.backbone or {n: t.clone() for n, t in state.items()}

    @visiongraft.hookimpl
    def epoch_ended(self, record: Any) -> None:
        self.records.append(record)


def accuracies(monkeypatch: Any, task: Any, *values: float | None) -> None:
    """Let a task claim these accuracies of the heads that it fits, one after another."""
    claimed = iter(values)
    fit = task.start_head

    def start_head(self: Any, head: Any, samples: Any, first: Any = None) -> HeadFit:
        fit(self, head, samples)
        return HeadFit(next(claimed))

    monkeypatch.setattr(task, "start_head", start_head)


@pytest.mark.parametrize("after", [0.4, 0.5])
def test_a_backbone_that_mended_no_errors_goes_back(
    fit_toy, toy_data, Refitting, monkeypatch, caplog, after
):
    accuracies(monkeypatch, Refitting, 0.5, after, 0.5)
    noted = LastWeights()
    model = fit_toy(toy_data(20), task=Refitting(), callbacks=[noted], select="last", **LP_FT)
    for name, tensor in model.network.backbone.state_dict().items():
        assert torch.equal(tensor, noted.backbone[name]), name
    (begun, _), _, (again, _) = Refitting.seen  # the start, then trained, then as it began
    torch.testing.assert_close(again, begun)
    assert noted.records[-1]["head_refit"] == {"accuracy": 0.5, "images": 17, "reverted": True}
    assert f"50.0% right before, {after:.1%} after" in caplog.text


@pytest.mark.parametrize(
    ("before", "after"), [(0.5, 0.6), (0.9, 0.8), (1.0, 1.0), (None, 0.1), (0.5, None)]
)
def test_otherwise_it_keeps_what_it_learned(
    fit_toy, toy_data, Refitting, monkeypatch, before, after
):
    accuracies(monkeypatch, Refitting, before, after)
    noted = LastWeights()
    model = fit_toy(toy_data(20), task=Refitting(), callbacks=[noted], select="last", **LP_FT)
    state = model.network.backbone.state_dict()
    assert any(not torch.equal(tensor, noted.backbone[n]) for n, tensor in state.items())
    assert noted.records[-1]["head_refit"] == {"accuracy": after, "images": 17, "reverted": False}
    assert "head_refit" not in noted.records[-2]


def test_a_task_that_returns_something_else_is_named(fit_toy, toy_data, Starting, monkeypatch):
    monkeypatch.setattr(Starting, "start_head", lambda *_: 0.9)
    with pytest.raises(PluginError, match="start_head of task 'toy' returned float, not HeadFit"):
        fit_toy(toy_data(20), task=Starting(), **LP_FT)


@pytest.mark.parametrize("stop", [None, 8, 12])
def test_a_fit_at_the_end_knows_the_one_at_the_start(
    fit_toy, toy_data, Refitting, tmp_path: Path, monkeypatch, stop: int | None
):
    known = []

    def start_head(self: Any, head: Any, samples: Any, first: Any = None) -> HeadFit:
        known.append(first)
        return HeadFit(0.9, {"seen": len(list(samples))})

    monkeypatch.setattr(Refitting, "start_head", start_head)
    settings = {**LP_FT, "checkpoint_every": 1, "batch_size": 4, "out": tmp_path}
    if stop is not None:
        with pytest.raises(KeyboardInterrupt):
            fit_toy(toy_data(20), task=Refitting(), callbacks=[StopAt(stop)], **settings)
        settings["resume"] = True
    fit_toy(toy_data(20), task=Refitting(), **settings)
    begun, *_, ended = known
    assert begun is None
    assert ended.accuracy == 0.9
    assert ended.facts["seen"] > 1


@pytest.mark.parametrize("stop", [8, 11, 12, 13])
def test_a_run_that_goes_back_after_an_interruption_equals_one_without(
    fit_toy, toy_data, Refitting, tmp_path: Path, monkeypatch, stop: int
):
    monkeypatch.setattr(Refitting, "start_head", lambda *_, **__: HeadFit(0.5))
    settings = {**LP_FT, "checkpoint_every": 1, "select": "last", "batch_size": 4}
    whole = fit_toy(toy_data(20), task=Refitting(), out=tmp_path / "whole", **settings)
    parts = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        fit_toy(toy_data(20), task=Refitting(), out=parts, callbacks=[StopAt(stop)], **settings)
    noted = LastWeights()
    resumed = fit_toy(
        toy_data(20), task=Refitting(), out=parts, callbacks=[noted], resume=True, **settings
    )
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name
    assert noted.records[-1]["head_refit"]["reverted"]


def test_the_model_card_says_that_the_backbone_went_back(
    fit_toy, toy_data, Refitting, tmp_path: Path, monkeypatch
):
    accuracies(monkeypatch, Refitting, 0.5, 0.4, 0.5)
    model = fit_toy(toy_data(20), task=Refitting(), out=tmp_path, **LP_FT)
    first, second, last = model.facts["training"]["phases"]
    assert "head_refit" not in {**first, **second}
    assert last["head_refit"] == {"accuracy": 0.5, "images": 17, "reverted": True}
    assert '"reverted": true' in (tmp_path / "model" / "README.md").read_text()


@schedule
def refit_between(stages: Any, epochs: int) -> Any:
    yield Phase(epochs - 1, "head", 1e-3, refit_head=True)
    yield Phase(1, "all", 1e-3)


def test_records_name_it_in_the_epochs_of_its_phase_only(fit_toy, toy_data, Refitting):
    noted = LastWeights()
    settings = {"schedule": refit_between, "epochs": 3, "callbacks": [noted]}
    fit_toy(toy_data(20), task=Refitting(), **settings)
    assert ["head_refit" in record for record in noted.records] == [True, True, False]


def test_any_phase_may_ask_for_it(fit_toy, toy_data, Refitting):
    first = FirstHead()
    settings = {"weights": None, "schedule": refit_at_once, "epochs": 1}
    fit_toy(toy_data(20), task=Refitting(), callbacks=[first], **settings)
    assert len(Refitting.seen) == 1
    torch.testing.assert_close(first.weight, torch.full_like(first.weight, 0.25), atol=0.02, rtol=0)


def test_averaged_weights_take_over_the_new_head(fit_toy, toy_data, Refitting):
    settings = {"weights": None, "schedule": refit_at_once, "epochs": 1, "ema": 0.999}
    model = fit_toy(toy_data(20), task=Refitting(), **settings)
    weight = model.network.head.linear.weight
    torch.testing.assert_close(weight, torch.full_like(weight, 0.25), atol=0.05, rtol=0)


def test_a_task_that_cannot_refuses_it(fit_toy, toy_data, Starting):
    with pytest.raises(ScheduleError, match=r"refit_head=True .* task 'toy' cannot"):
        fit_toy(toy_data(20), task=Starting(), schedule=refit_at_once, epochs=1)


def test_lp_ft_is_refused_before_the_first_epoch_if_it_could_not_at_the_end(
    fit_toy, toy_data, Starting, tmp_path: Path
):
    settings = {**LP_FT, "schedule": "lp_ft(refit=True)", "out": tmp_path / "run"}
    with pytest.raises(
        ScheduleError, match=r"lp_ft\(refit=True\) .* task 'toy' cannot .* pass lp_ft"
    ):
        fit_toy(toy_data(20), task=Starting(), **settings)
    assert not (tmp_path / "run").exists()


def test_nor_is_a_private_run_begun_that_would_fit_it_without_noise(fit_toy, toy_data, Refitting):
    settings = {**LP_FT, "schedule": "lp_ft(refit=True)", "privacy": "epsilon=3,delta=1e-2"}
    with pytest.raises(ScheduleError, match=r"private run computes nothing .* without noise"):
        fit_toy(toy_data(20), task=Refitting(), **settings)


def test_a_phase_that_does_not_train_the_head_cannot_fit_it(fit_toy, toy_data, Refitting):
    @schedule
    def backbone_alone(stages: Any, epochs: int) -> Any:
        yield Phase(epochs, (stages[-1],), refit_head=True)

    with pytest.raises(ScheduleError, match="fits the head anew, which the phase does not train"):
        fit_toy(toy_data(20), task=Refitting(), schedule=backbone_alone, epochs=1)


def test_the_schedule_of_the_run_says_so(fit_toy, toy_data, Refitting, tmp_path: Path):
    fit_toy(toy_data(20), task=Refitting(), out=tmp_path, **LP_FT)
    stored = json.loads((tmp_path / "config.json").read_text())["schedule"]
    assert stored["options"] == {"probe_learning_rate": STARTED_RATE, "refit": True}
    fit_toy(toy_data(20), task=Refitting(), out=tmp_path, resume=True, **LP_FT)
