"""Measuring before a run works with every task, on the example dataset that it comes with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import visiongraft
from visiongraft.advice.trials import Trials
from visiongraft.registry.manager import plugins

OTHERS = ("detection", "face_embedding", "segmentation")
TASKS = ["classification", *(pytest.param(n, marks=pytest.mark.exhaustive) for n in OTHERS)]


@pytest.fixture(scope="module", params=TASKS)
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Settings of short runs of a small network on the examples of a task."""
    examples = plugins().get("task", request.param)().examples()
    folder: Path = tmp_path_factory.mktemp(request.param)
    return {
        "data": examples.make_dataset(folder, 24, 0),
        "task": request.param,
        "backbone": "simple_cnn",
        "weights": None,
        "size": 32,
        "device": "cpu",
    }


def test_the_learning_rate_is_swept(settings: Any) -> None:
    sweep = visiongraft.lr_find(**settings, schedule="full", batch_size=8, steps=20)
    assert 10 < len(sweep.losses) <= 20
    assert all(map(math.isfinite, sweep.losses))
    assert sweep.settings.startswith("full(learning_rate={rate}")


def test_the_batch_size_is_measured(settings: Any) -> None:
    model = visiongraft.fit(**settings, schedule="full", batch_size="auto", epochs=1, callbacks=())
    assert model.facts["training"]["batch_size"] in (2, 4)


def test_the_number_of_epochs_is_chosen_for_a_budget(settings: Any) -> None:
    with pytest.raises(visiongraft.errors.OptionError, match="the least is about"):
        visiongraft.fit(**settings, schedule="full", batch_size=8, budget=0.01, callbacks=())


def test_advice_tells_what_has_a_meaning_for_the_task(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trials, "run", lambda *_: None)  # which has its own tests
    given = {k: v for k, v in settings.items() if k != "backbone"}
    advice = visiongraft.advise(
        **given, backbones=["simple_cnn"], scorers=["linear_probe"], epochs=2, batch_size=8
    )
    assert len(advice.costs) == 3
    if settings["task"] == "classification":
        assert advice.ranking[0].scores["linear_probe"].value is not None
    else:
        assert "has no single class for each image" in advice.statements[1]
