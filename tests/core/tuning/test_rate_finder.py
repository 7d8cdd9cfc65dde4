"""The learning-rate range test on runs: what it trains, what it leaves behind, what it refuses."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import visiongraft
from visiongraft.cli import main
from visiongraft.errors import OptionError, ScheduleError, VisiongraftError
from visiongraft.schedules import Phase, schedule
from visiongraft.training.freezing import digest
from visiongraft.training.steps import LossNotFiniteError
from visiongraft.tuning import rate_finder


@pytest.fixture(scope="module")
def find(toy_data: Any, Toy: Any) -> Any:
    data = toy_data(40)

    def lr_find(**settings: Any) -> visiongraft.RateSweep:
        defaults = {
            "task": Toy(augment=False),
            "backbone": "toys/toy",
            "weights": None,
            "schedule": "lp_ft",
            "batch_size": 16,
            "device": "cpu",
            "steps": 40,
        }
        return visiongraft.lr_find(settings.pop("data", data), **{**defaults, **settings})

    return lr_find


# ---- what it measures ----


def test_the_first_phase_is_swept_until_the_loss_diverges(find: Any) -> None:
    sweep = find(steps=60, highest=1e4)
    assert (sweep.phase, sweep.trained) == (1, "head")
    assert 20 < len(sweep.losses) < 60  # it diverged
    assert sweep.rates == visiongraft.tuning.rates.rates_between(1e-6, 1e4, 60)[: len(sweep.losses)]
    assert 1e-5 < sweep.valley < 10
    assert sweep.settings == "lp_ft(probe_learning_rate={rate})"


def test_another_phase_is_swept_after_those_before_it(find: Any) -> None:
    schedule = "lp_ft(layer_decay=0.5, probe_learning_rate=0.05)"
    sweep = find(phase=2, schedule=schedule, epochs=4)
    assert (sweep.phase, sweep.trained) == (2, "all")
    options = "layer_decay=0.5, probe_learning_rate=0.05, learning_rate={rate}"
    assert sweep.settings == f"lp_ft({options})"
    first = np.mean(find(phase=1, schedule=schedule, epochs=4).losses[:5])
    assert np.mean(sweep.losses[:5]) < first  # the head is not the untrained one


def test_two_sweeps_are_equal(find: Any) -> None:
    assert find() == find()


def test_layer_decay_and_factors_on_rates_stay_as_they_are(
    find: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[float]] = []

    def watch(optimizer: torch.optim.Optimizer, factor: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        seen.append(sorted({group["lr"] for group in optimizer.param_groups}))

    monkeypatch.setattr(rate_finder, "set_learning_rate", watch)
    sweep = find(schedule="full(layer_decay=0.5, learning_rate=0.3)", steps=20, highest=1e-3)
    assert [rates[-1] for rates in seen] == pytest.approx(sweep.rates)
    for rates in seen:
        assert [rate / rates[-1] for rate in rates] == pytest.approx([0.125, 0.25, 0.5, 1])


def test_a_rate_that_no_option_sets_is_suggested_without_one(find: Any) -> None:
    @schedule
    def fixed(stages: Any, epochs: int) -> Any:
        yield Phase(epochs, "head", 0.01)

    sweep = find(schedule=fixed)
    assert sweep.settings == ""
    assert "pass" not in str(sweep)


def test_a_loss_that_is_not_finite_ends_the_sweep_except_at_the_first_step(
    find: Any, Toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Toy.training_step
    steps = []

    def explode(self: Any, network: Any, batch: Any) -> Any:
        steps.append(batch)
        parts = plain(self, network, batch)
        return parts if len(steps) < last else {n: p * torch.nan for n, p in parts.items()}

    monkeypatch.setattr(Toy, "training_step", explode)
    monkeypatch.setattr(Toy, "mix", lambda self, images, targets: (images, targets))
    last = 8
    assert len(find(schedule="full").losses) == 7
    steps, last = [], 1
    with pytest.raises(LossNotFiniteError, match="not finite"):
        find(schedule="full")


# ---- what it leaves behind ----


def test_nothing_is_left_on_the_disk_or_in_the_random_states(
    find: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    find(steps=20)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert after == states
    assert list(tmp_path.iterdir()) == []


def test_a_model_to_start_from_is_left_as_it_was(find: Any, fit_toy: Any, toy_data: Any) -> None:
    model = fit_toy(toy_data(40), schedule="full", epochs=1)
    before = {n: digest(t) for n, t in model.network.state_dict().items()}
    modes = [module.training for module in model.network.modules()]
    sweep = visiongraft.lr_find(
        toy_data(40), start=model, schedule="full", batch_size=16, steps=20, device="cpu"
    )
    assert len(sweep.losses) == 20
    assert {n: digest(t) for n, t in model.network.state_dict().items()} == before
    assert [module.training for module in model.network.modules()] == modes


# ---- what it refuses ----


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"phase": 0}, OptionError, "phase=0 is not an integer of at least 1"),
        ({"phase": 3}, OptionError, "phase=3: schedule 'lp_ft' has 2 phases in 10 epochs"),
        ({"phase": 2, "epochs": 1}, OptionError, "phase=2: schedule 'lp_ft' has 1 phase in"),
        ({"steps": 5}, OptionError, "steps=5 is not an integer of at least 20"),
        ({"steps": 30.0}, OptionError, "steps=30.0"),
        ({"lowest": 0.0}, OptionError, "lowest=0.0 and highest=10.0 are not two learning rates"),
        ({"lowest": 1.0, "highest": 0.1}, OptionError, "lowest=1.0 and highest=0.1"),
        ({"highest": float("nan")}, OptionError, "highest=nan"),
        ({"lowest": "low"}, OptionError, "lowest='low'"),
        ({"out": "runs/x"}, OptionError, "lr_find has no option 'out'"),
        ({"batchsize": 3}, OptionError, "no option 'batchsize'; did you mean 'batch_size'"),
        ({"schedule": "lp_ft(probe_epochs=-1)"}, ScheduleError, "probe_epochs=-1"),
        ({"data": None}, OptionError, "data is missing"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_nonsense_is_refused_in_one_line(
    find: Any, settings: dict[str, Any], error: type[VisiongraftError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        find(**settings)
    assert "\n" not in str(caught.value)


# ---- the command ----


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run ``lr-find`` with a measurement that is made up."""

    def call(
        *words: object,
        losses: Any = (1.0,) * 4 + (0.5,) * 8 + (9.0,),
        phases: Any = ("head",),
        fitted: bool = False,
    ) -> Any:
        def made_up(data: str, **settings: Any) -> visiongraft.RateSweep:
            seen.update(settings, data=data)
            rates = visiongraft.tuning.rates.rates_between(1e-4, 1.0, len(losses))
            option = "lp_ft(learning_rate={rate})"
            return visiongraft.RateSweep(rates, losses, 1, "head", option, phases, fitted)

        monkeypatch.setattr(rate_finder, "lr_find", made_up)
        seen: dict[str, Any] = {}
        code = main(["lr-find", *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err, seen

    return call


def test_the_command_names_the_other_phases_and_why_a_suggestion_may_mislead(command: Any) -> None:
    _, out, *_ = command("photos", phases=("head", "all"), fitted=True)
    *_, caution, phases = out.splitlines()
    assert caution.startswith("the head was fitted to these training images already")
    assert phases == "phases of the schedule: 1 head, 2 all; --phase sweeps another one"
    _, out, *_ = command("photos", losses=(1.0,) * 30, phases=("head", "all"), fitted=True)
    assert "fitted" not in out and "1 head, 2 all" in out


def test_the_command_prints_both_suggestions_and_how_to_pass_them_on(
    command: Any, tmp_path: Path
) -> None:
    plot = tmp_path / "sweep.png"
    words = ["photos", "--task", "toy", "--batch-size", 8, "--steps", 30, "--plot", plot]
    code, out, err, seen = command(*words)
    assert (code, err) == (0, "")
    heading, row, how, saved = out.splitlines()
    assert heading.split() == ["phase", "trained", "valley", "steepest"]
    assert row.split()[:2] == ["1", "head"]
    assert how == (
        "to train with the valley: visiongraft fit ... "
        f'--schedule "lp_ft(learning_rate={row.split()[2]})"'
    )
    assert saved == f"plot saved to {plot}" and plot.is_file()
    assert seen == {
        "data": "photos",
        "task": "toy",
        "batch_size": 8,
        "phase": 1,
        "lowest": 1e-6,
        "highest": 10.0,
        "steps": 30,
    }


def test_the_command_says_so_if_the_loss_never_falls(command: Any) -> None:
    code, out, _, _ = command("photos", "--task", "toy", losses=(1.0,) * 30)
    assert code == 0
    assert "between rates of 1.0e-04 and 1.0e+00 the loss falls by no more than" in out
    values = json.loads(command("photos", "--json", losses=(1.0,) * 30)[1])
    assert (values["valley"], values["steepest"]) == (None, None)


def test_the_command_refuses_a_plot_of_another_format_at_once(command: Any) -> None:
    code, _, err, seen = command("photos", "--task", "toy", "--plot", "sweep.pdf")
    assert (code, seen) == (2, {})
    assert err == "error: plot=sweep.pdf is not a path with the suffix .png or .svg\n"
