"""Settings of a run from a file: every suffix, a run folder, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from visiongraft.cli.settings_file import read_settings
from visiongraft.config import FitConfig, fit_defaults
from visiongraft.data.check import SampleDigests
from visiongraft.errors import VisiongraftError
from visiongraft.schedules import STARTED_RATE
from visiongraft.training.resuming.inputs import RunInputs

SETTINGS = {"epochs": 3, "learning_rate": 0.001, "size": [32, 48], "evaluate_on": {"old": "data"}}


def config(**settings: object) -> FitConfig:
    values = {
        **fit_defaults(),
        "task": "toy",
        "task_options": {},
        "epochs": 2,
        "schedule": {"name": "full", "options": {"learning_rate": 0.01}},
        "batch_size": 8,
        "transfer_loss": [],
        "adapters": [],
    }
    return FitConfig(**{**values, **settings})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.json", json.dumps(SETTINGS)),
        (
            "run.yaml",
            "epochs: 3\nlearning_rate: 1e-3\nsize: [32, 48]\nevaluate_on:\n  old: data\n",
        ),
        (
            "run.toml",
            'epochs = 3\nlearning_rate = 1e-3\nsize = [32, 48]\n[evaluate_on]\nold = "data"\n',
        ),
    ],
)
def test_settings_are_read_from_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_settings(tmp_path / name) == SETTINGS


@pytest.mark.parametrize("given", ["", "config.json"])
def test_a_run_gives_its_settings_back(tmp_path: Path, given: str) -> None:
    config(data="images", budget=60.0).write(tmp_path)
    found = read_settings(tmp_path / given)
    assert (found["data"], found["epochs"], found["budget"]) == ("images", 2, None)
    assert found["schedule"] == {"name": "full", "options": {"learning_rate": 0.01}}
    assert set(found) == set(fit_defaults())


STARTED = {"probe_learning_rate": STARTED_RATE, "refit": True}


@pytest.mark.parametrize(
    ("options", "settings", "passed"),
    [
        (STARTED, {}, {}),
        ({**STARTED, "learning_rate": 0.1}, {}, {"learning_rate": 0.1}),
        ({**STARTED, "refit": False}, {}, {"refit": False}),
        ({**STARTED, "probe_learning_rate": 0.1}, {}, {"probe_learning_rate": 0.1}),
        (STARTED, {"ema": 0.9}, {"refit": True}),
    ],
    ids=str,
)
def test_a_run_gives_back_what_was_passed_without_what_fit_added_for_its_head(
    tmp_path: Path, options: dict[str, object], settings: dict[str, object], passed: object
) -> None:
    schedule = {"name": "lp_ft", "options": options}
    config(schedule=schedule, **settings).write(tmp_path)
    samples = {"training": [SampleDigests("a" * 32, "b" * 32, "a.png")] * 3, "validation": []}
    RunInputs(samples=samples, task_options={}, weights={}, code={}).write(tmp_path)
    assert read_settings(tmp_path)["schedule"]["options"] == options, "no epoch has ended"
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 0, "head_start": {"accuracy": 0.9}}\n')
    assert read_settings(tmp_path)["schedule"] == {"name": "lp_ft", "options": passed}
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 0}\n')
    assert read_settings(tmp_path)["schedule"]["options"] == options, "the head did not start"


def test_a_run_that_continued_with_a_model_gives_no_backbone_back(tmp_path: Path) -> None:
    config(start="runs/first", backbone="other").write(tmp_path)
    assert not {"backbone", "weights", "in_channels"} & set(read_settings(tmp_path))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.yaml", "lr: 1", "fit has no option 'lr'; did you mean 'learning_rate'?"),
        ("run.toml", "epoch = 1", "fit has no option 'epoch'; did you mean 'epochs'?"),
        ("run.toml", "epochs", "cannot be read"),
        ("run.yaml", "- 1", "contains no settings by name"),
        ("run.yaml", "a: [", "is not valid YAML"),
        ("run.ini", "epochs=1", "expected a .yaml, .toml or .json file, or a run folder"),
    ],
)
def test_a_file_without_settings_of_fit_is_refused_in_one_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(VisiongraftError) as refused:
        read_settings(tmp_path / name)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(VisiongraftError, match="nowhere"):
        read_settings(tmp_path / "nowhere.yaml")
