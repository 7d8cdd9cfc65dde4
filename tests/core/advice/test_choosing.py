"""``schedule="auto"``: the choice, its reason, and that the run is the one with that schedule."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import visiongraft
from visiongraft.advice import choosing
from visiongraft.advice.probes import LinearProbe, fit_linear_probe
from visiongraft.advice.recommending import recommend
from visiongraft.errors import OptionError


@pytest.mark.parametrize(
    ("accuracy", "low", "schedule", "words"),
    [
        (0.995, 0.985, "linear_probe", "a probe is enough"),
        (0.5, 0.4, "full", "frozen features do not help"),
        (0.55, 0.45, "lp_ft", "so few images do not tell that from chance"),
        (0.8, 0.7, "lp_ft", "what fine-tuning gains beyond that is not known before"),
    ],
)
def test_the_schedule_follows_from_the_probe(
    accuracy: float, low: float, schedule: str, words: str
) -> None:
    choice = recommend("toy", accuracy, low, chance=0.5)
    assert choice.schedule == schedule
    assert words in str(choice) and f"{accuracy:.1%}" in str(choice)


def probing(right: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let probes be right for a fraction of the images."""

    def fit(features: Any, labels: Any) -> LinearProbe:
        wrong = np.arange(len(labels)) >= right * len(labels)
        return replace(fit_linear_probe(features, labels), left_out=(labels + wrong) % 3)

    monkeypatch.setattr(choosing, "fit_linear_probe", fit)


def test_the_run_equals_one_with_the_schedule_and_stores_it(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probing(0.7, monkeypatch)
    data, options = toy_data(60), {"epochs": 2, "learning_rate": 0.01}
    chosen = fit_toy(data, schedule="auto", out=tmp_path / "auto", **options)
    named = fit_toy(data, schedule="open_on_gain", **options)
    states = chosen.network.state_dict(), named.network.state_dict()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    config = json.loads((tmp_path / "auto" / "config.json").read_text())
    assert config["schedule"] == {"name": "open_on_gain", "options": {"learning_rate": 0.01}}
    assert "schedule='open_on_gain': a linear probe" in (tmp_path / "auto" / "run.log").read_text()
    fit_toy(data, schedule="auto", out=tmp_path / "auto", resume=True, **options)


def test_a_probe_that_is_always_right_is_all_that_trains(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probing(1.0, monkeypatch)
    fit_toy(toy_data(300), schedule="auto", epochs=1, out=tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["schedule"]["name"] == "linear_probe"


def test_lr_find_refuses_a_schedule_that_is_not_chosen_yet(Toy: Any, toy_data: Any) -> None:
    with pytest.raises(OptionError, match="schedule='auto' is chosen by fit"):
        visiongraft.lr_find(toy_data(20), task=Toy(), backbone="toys/toy", schedule="auto")
