"""``budget="10min"``: how many epochs are chosen, and that the run is the one with that number."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import visiongraft
from tests.core.conftest import Toy
from visiongraft.cli import main
from visiongraft.errors import CheckpointError, OptionError
from visiongraft.hookspecs import hookimpl
from visiongraft.schedules import Phase, lp_ft
from visiongraft.tuning import time_budget
from visiongraft.tuning.plans import planned_phases
from visiongraft.tuning.time_budget import USED, BudgetPlan, PhaseCost, choose_epochs


class Made:
    """Costs of the phases of ``lp_ft`` that are made up."""

    def __init__(self, probe: PhaseCost, full: PhaseCost, once: float = 0.0) -> None:
        self.costs = {"head": probe, "all": full}
        self.once = once

    def phases(self, epochs: int) -> list[tuple[Phase, PhaseCost]]:
        planned = planned_phases(lp_ft, ("stem",), epochs, Toy())
        return [(phase, self.costs[phase.label]) for phase in planned]

    def seconds(self, epochs: int) -> float:
        phases = self.phases(epochs)
        return self.once + sum(cost.start + phase.epochs * cost.epoch for phase, cost in phases)


def choose(budget: float, costs: Made) -> BudgetPlan:
    return choose_epochs(budget, costs, time.monotonic())  # type: ignore[arg-type]


# ---- the choice ----

SECONDS = st.floats(0.1, 100)


@given(st.floats(10, 1e5), SECONDS, SECONDS, SECONDS, SECONDS)
def test_the_most_epochs_that_fit_are_chosen(
    budget: float, filling: float, probing: float, tuning: float, once: float
) -> None:
    costs = Made(PhaseCost(filling, probing), PhaseCost(0.0, tuning), once)
    try:
        plan = choose(budget, costs)
    except OptionError:
        assert costs.seconds(1) > USED * budget * 0.999
        return
    assert costs.seconds(plan.epochs) <= USED * budget
    assert plan.epochs == 100 or costs.seconds(plan.epochs + 1) > USED * budget * 0.999


def test_a_budget_that_is_too_short_is_refused_with_the_least() -> None:
    with pytest.raises(OptionError) as caught:
        choose(3.0, Made(PhaseCost(1.0, 1.0), PhaseCost(0.0, 38.0), once=7.5))
    assert str(caught.value) == (
        "budget=3 s is too short: one epoch takes 38 s on this machine, and all before it 7.5 s; the "
        "least is about 48 s; or choose a smaller size, a smaller backbone, or "
        "schedule='linear_probe'"
    )


def test_the_least_is_enough() -> None:
    costs = Made(PhaseCost(1.0, 1.0), PhaseCost(0.0, 38.0), once=7.5)
    assert choose(48.1, costs).epochs == 1


def test_the_plan_names_its_epochs_and_their_times() -> None:
    plan = choose(600.0, Made(PhaseCost(20.0, 0.6), PhaseCost(0.0, 45.0)))
    assert re.sub(r"0\.\d+ s in total", "0 s in total", str(plan)) == (
        "budget 10 min: 17 epochs on this machine: 5 of 0.6 s (head), then 12 of 45 s (all); about 9 min "
        "23 s in total"
    )


def test_no_more_epochs_are_planned_than_are_useful() -> None:
    plan = choose(1e6, Made(PhaseCost(0.0, 0.1), PhaseCost(0.0, 0.1)))
    assert plan.epochs == 100
    assert "100 epochs on this machine, the most that a budget plans" in str(plan)


# ---- measuring ----


class Slow:
    """Makes each step of a run take a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        plain = Toy.training_step

        def step(task: Toy, network: Any, batch: Any) -> Any:
            time.sleep(seconds)
            return plain(task, network, batch)

        monkeypatch.setattr(Toy, "training_step", step)


@pytest.mark.exhaustive  # real time, which needs a machine that does little else
def test_a_run_keeps_to_its_budget_and_uses_most_of_it(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Slow(monkeypatch, 0.1)  # whatever else the machine does
    started = time.monotonic()
    fit_toy(toy_data(40), schedule="full", epochs=None, budget="4s", out=tmp_path / "run")
    taken = time.monotonic() - started
    assert 2.0 < taken < 4.8
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["budget"] == 4.0
    assert 3 < config["epochs"] < 40
    log = (tmp_path / "run" / "run.log").read_text()
    assert f"budget 4 s: {config['epochs']} epochs on this machine: " in log


@pytest.mark.exhaustive  # real time, likewise
def test_cached_epochs_are_not_taken_for_full_ones(
    fit_toy: Any, toy_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = visiongraft.network.Network.preprocess_on_cpu

    def slow_loading(network: Any) -> Any:
        preprocess = plain(network)
        run = preprocess.forward

        def forward(images: Any) -> Any:
            time.sleep(0.03)
            return run(images)

        preprocess.forward = forward
        return preprocess

    monkeypatch.setattr(visiongraft.network.Network, "preprocess_on_cpu", slow_loading)
    plans: list[BudgetPlan] = []
    monkeypatch.setattr(visiongraft.fitting, "use_budget", lambda run, plan: plans.append(plan))
    monkeypatch.setattr(visiongraft.fitting.Engine, "train", stop)
    for replay in ("on", "off"):
        with pytest.raises(Stopped):
            fit_toy(toy_data(30), schedule="linear_probe", epochs=None, budget=60, replay=replay)
    cached, full = (cost for plan in plans for _, cost in plan.phases)
    assert full.epoch > 0.8  # thirty images
    assert cached.epoch < full.epoch / 3
    assert cached.start > full.start + 0.4


def test_features_that_an_earlier_run_left_take_no_time_to_fill(
    fit_toy: Any, toy_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, filled = time_budget.stored_rows, []
    monkeypatch.setattr(
        time_budget, "stored_rows", lambda *given: filled.append(given) or plain(*given)
    )
    settings = {"schedule": "linear_probe(learning_rate=0.01)", "epochs": None, "budget": 60}
    monkeypatch.setattr(time_budget, "MOST_EPOCHS", 2)
    fit_toy(toy_data(30), **settings)
    assert filled
    filled.clear()
    fit_toy(toy_data(30), **settings)
    assert not filled


def test_the_start_of_the_head_is_counted(
    fit_toy: Any, toy_data: Any, Toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Starting(Toy):  # type: ignore[misc]
        starts_head = True

        def start_head(self, head: Any, samples: Any, first: Any = None) -> None: ...

    seen: list[float] = []
    plain = time_budget.choose_epochs

    def choose(budget: float, costs: Any, started: float) -> BudgetPlan:
        plan = plain(budget, costs, started)
        seen.append(costs.once)
        return plan

    monkeypatch.setattr(time_budget, "choose_epochs", choose)
    monkeypatch.setattr(time_budget, "_seconds_of_an_image", lambda *_: 0.5)
    monkeypatch.setattr(visiongraft.fitting.Engine, "train", stop)
    for task in (Starting(), Toy()):
        with pytest.raises(Stopped):
            fit_toy(
                toy_data(30),
                task=task,
                weights="pretrained",
                epochs=None,
                budget=600,
                schedule="full",
            )
    started, random = seen
    assert started - random == pytest.approx(0.5 * 24, abs=0.5)  # a pass over the training images


class Stopped(Exception):
    pass


def stop(*_: Any) -> None:
    raise Stopped


# ---- the run ----


class Quick:
    """Costs with which a second is enough for six epochs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cost = PhaseCost(0.0, 10.0)
        monkeypatch.setattr(time_budget.Costs, "_measure", lambda *_: cost)


def test_the_run_equals_one_with_the_epochs_and_is_resumed_with_them(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Quick(monkeypatch)
    data = toy_data(40)
    planned = fit_toy(data, epochs=None, budget="75s", out=tmp_path / "planned")
    config = json.loads((tmp_path / "planned" / "config.json").read_text())
    plain = fit_toy(data, epochs=config["epochs"], out=tmp_path / "plain")
    assert 2 <= config["epochs"] <= 7
    for name, tensor in plain.network.state_dict().items():
        assert torch.equal(planned.network.state_dict()[name], tensor), name
    histories = [(tmp_path / n / "metrics.jsonl").read_text() for n in ("planned", "plain")]
    assert histories[0] == histories[1]
    monkeypatch.setattr(visiongraft.fitting, "plan_epochs", stop)
    again: dict[str, Any] = {"epochs": None, "resume": True, "out": tmp_path / "planned"}
    assert fit_toy(data, **again).facts["metrics"] == planned.facts["metrics"]
    fit_toy(data, budget="1min15s", **again)
    with pytest.raises(CheckpointError, match=r"budget=60.0 .the run has 75.0."):
        fit_toy(data, budget="1min", **again)


def test_a_run_that_was_killed_ends_as_one_that_was_not(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Quick(monkeypatch)

    class Kill:
        @hookimpl
        def epoch_ended(self, record: Any) -> None:
            if record["epoch"] == 1:
                raise KeyboardInterrupt

    data, settings = toy_data(40), {"epochs": None, "checkpoint_every": 1}
    whole = fit_toy(data, budget=55, **settings)
    with pytest.raises(KeyboardInterrupt):
        fit_toy(data, budget=55, out=tmp_path / "run", callbacks=[Kill()], **settings)
    resumed = fit_toy(data, out=tmp_path / "run", resume=True, **settings)
    assert resumed.facts["training"]["epochs"] == whole.facts["training"]["epochs"]
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], tensor), name


def test_the_plan_is_shown_as_the_run_begins(
    fit_toy: Any, toy_data: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Quick(monkeypatch)
    fit_toy(toy_data(40), epochs=None, budget=30, schedule="full", callbacks=("progress",))
    assert (
        "budget 30 s: 2 epochs on this machine: 2 of 10 s (all); about 2" in capsys.readouterr().err
    )


# ---- what is refused ----


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"budget": "soon"}, "budget='soon' is not a time, such as 90s, 10min or 1h30m"),
        ({"budget": "0s"}, "budget=0.0 is not a time"),
        ({"budget": -3}, "budget=-3.0 is not a time"),
        ({"budget": float("inf")}, "budget=inf is not a time"),
        ({"budget": 10**400}, "budget=inf is not a time"),
        (
            {"budget": "10min", "epochs": 10},
            "a budget chooses the number of epochs: omit epochs=10",
        ),
        ({"budget": 1e-3}, "budget=0.001 s is too short: one epoch takes .* the least is about"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_nonsense_is_refused_in_one_line_and_leaves_no_run(
    fit_toy: Any, toy_data: Any, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        fit_toy(toy_data(40), out=tmp_path / "run", **{"epochs": None, **settings})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_the_command_refuses_epochs_beside_a_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "fit",
        str(tmp_path),
        "--out",
        str(tmp_path / "run"),
        "--task",
        "toy",
        "--budget",
        "3s",
    ]
    assert main([*words, "--backbone", "toys/toy", "--weights", "none", "--epochs", "10"]) == 2
    assert "omit epochs=10 or the budget" in capsys.readouterr().err
