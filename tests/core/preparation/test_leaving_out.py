"""A run that is trained again without some images takes what its settings hold, and nothing it would do harm with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from visiongraft.config import FitConfig, fit_defaults
from visiongraft.data.check import SampleDigests
from visiongraft.errors import OptionError
from visiongraft.mistakes.out_of_fold import models_by_fold
from visiongraft.preparation.leaving_out import settings_leaving_out
from visiongraft.training.measuring.own_metrics import read_metrics

STORED = {"auroc": None, "f1": "MulticlassF1Score"}  # one was an object


def config_of(**settings: Any) -> FitConfig:
    values = {
        "data": "data",
        "task": "toy",
        "task_options": {},
        "epochs": 2,
        "batch_size": 8,
        "schedule": {"name": "full", "options": {}},
        "transfer_loss": [],
        "adapters": [],
    }
    return FitConfig(**{**fit_defaults(), **values, **settings})


def test_metrics_that_were_objects_are_left_out() -> None:
    assert settings_leaving_out(config_of(metrics=STORED), ())["metrics"] == {
        "f1": "MulticlassF1Score"
    }
    assert settings_leaving_out(config_of(metrics={"auroc": None}), ())["metrics"] is None
    with pytest.raises(OptionError, match="object of another run"):  # what fit said to them
        read_metrics(STORED)


@pytest.mark.parametrize(
    "select", ["highest(validation.auroc)", "best(validation.auroc.low >= 0.5)"]
)
def test_a_run_that_was_selected_by_an_object_is_refused_in_one_line(select: str) -> None:
    with pytest.raises(OptionError, match="compares its metric 'auroc', an object") as caught:
        settings_leaving_out(config_of(metrics=STORED, select=select), ())
    assert "\n" not in str(caught.value)
    by_text = config_of(metrics=STORED, select="highest(validation.f1)")
    assert settings_leaving_out(by_text, ())["select"] == "highest(validation.f1)"


def test_a_private_run_is_not_trained_again_for_each_fold(tmp_path: Path) -> None:
    digests = [SampleDigests(str(i), str(i), f"{i}.png") for i in range(8)]
    config = config_of(privacy={"epsilon": 3.0, "delta": 1e-5})
    with pytest.raises(OptionError, match="spend its privacy budget again") as caught:
        next(models_by_fold(tmp_path, config, cast(Any, None), digests, 2))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
