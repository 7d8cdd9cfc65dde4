"""The settings of a run survive a round trip through the file; a damaged file is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from visiongraft.config import FitConfig, differences
from visiongraft.errors import ArtifactError, OptionError, VisiongraftError


@pytest.fixture
def config(fit_toy, toy_data, tmp_path) -> FitConfig:
    fit_toy(toy_data(30), out=tmp_path / "run", epochs=1, size=(16, 16))
    return FitConfig.read(tmp_path / "run")


def test_settings_are_equal_after_a_round_trip(config, tmp_path):
    config.write(tmp_path / "again")
    assert FitConfig.read(tmp_path / "again") == config
    assert (config.size, config.task, config.data) == ((16, 16), "toy", None)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda v: v.pop("seed"), "seed"),
        (lambda v: v.update(sed=1), "sed"),
        (lambda v: v.pop("format"), "is not the config of a run"),
        (
            lambda v: v.update(format=7, visiongraft="9.1.0"),
            r"was saved by visiongraft 9\.1\.0 in format 7; visiongraft .* reads format 3",
        ),
        (
            lambda v: (v.update(format=1), v.pop("visiongraft")),
            r"was saved by visiongraft 0\.1\.0 in format 1; visiongraft .* reads format 3",
        ),
    ],
)
def test_a_damaged_config_is_refused(config, tmp_path, spoil, words):
    path = tmp_path / "run" / "config.json"
    values = json.loads(path.read_text())
    spoil(values)
    path.write_text(json.dumps(values))
    with pytest.raises(ArtifactError, match=words):
        FitConfig.read(tmp_path / "run")


def test_a_config_of_version_0_2_has_the_defaults_of_later_settings(
    config: FitConfig, tmp_path: Path
) -> None:
    path = tmp_path / "run" / "config.json"
    values = json.loads(path.read_text())
    later = {"start", "evaluate_on", "select", "streams", "adapters"}
    old = {name: value for name, value in values.items() if name not in later}
    path.write_text(json.dumps({**old, "format": 2, "transfer_loss": None}))
    assert FitConfig.read(tmp_path / "run") == config
    path.write_text(json.dumps({**old, "format": 3}))
    with pytest.raises(ArtifactError, match="missing or unknown settings: adapters, evaluate_on"):
        FitConfig.read(tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "kept"),
    [({}, {"learning_rate": 1e-4}), ({"learning_rate": 0.1}, {"learning_rate": 0.1})],
)
def test_a_run_of_version_0_2_keeps_the_default_learning_rate_of_its_time(
    config: FitConfig, tmp_path: Path, options: dict[str, float], kept: dict[str, float]
) -> None:
    path = tmp_path / "run" / "config.json"
    values = json.loads(path.read_text())
    schedule = {"name": "lp_ft", "options": options}
    path.write_text(json.dumps({**values, "format": 2, "schedule": schedule}))
    assert FitConfig.read(tmp_path / "run").schedule["options"] == kept


def test_differences_name_both_values_and_ignore_other_names(config):
    assert differences({"seed": 3, "epochs": 1}, config) == ["seed=3 (the run has 0)"]
    assert differences({"seeds": 3}, config) == []


def test_a_setting_of_none_is_compared(config: FitConfig) -> None:
    assert differences({"clip_norm": None}, config) == ["clip_norm=None (the run has 1.0)"]
    assert differences({"weights": None, "views": None}, config) == []


def test_values_are_compared_as_the_file_stores_them(config: FitConfig) -> None:
    stored = replace(config, task_options={"names": ["a"]}, schedule={"at": {"2": "all"}})
    same = {"task_options": {"names": ("a",)}, "schedule": {"at": {2: "all"}}, "size": [16, 16]}
    assert differences(same, stored) == []
    (line,) = differences({"task_options": {"names": ("b",)}}, stored)
    assert line == "task_options={'names': ('b',)} (the run has {'names': ['a']})"


def test_a_setting_that_json_stores_differently_is_not_a_difference(config):
    schedule = {"name": "milestones", "options": {"at": {1: "all"}, "names": ("a", "b")}}
    stored = replace(config, schedule=json.loads(json.dumps(schedule)))
    assert differences({"schedule": schedule}, stored) == []
    schedule["options"]["names"] = ("a", "c")
    assert len(differences({"schedule": schedule}, stored)) == 1


WRONG: list[Any] = [None, True, -1, 10**30, 0.5, float("nan"), "x", [], [1, "x"], {}, {"x": None}]
NESTED = {"schedule": ("name", "options")}


def test_wrong_types_in_a_stored_config_are_read_or_refused_in_one_line(
    make_config: Any, tmp_path: Path
) -> None:
    make_config(transfer_loss=[{"name": "l2_sp", "options": {}}]).write(tmp_path)
    good = json.loads((tmp_path / "config.json").read_text())
    refused = 0
    for name, value in good.items():
        for wrong in WRONG:
            variants = [wrong, *({**value, key: wrong} for key in NESTED.get(name, ()))]
            if name == "transfer_loss":
                variants += [[wrong], *([{**value[0], key: wrong}] for key in value[0])]
            for variant in variants:
                (tmp_path / "config.json").write_text(json.dumps({**good, name: variant}))
                try:
                    config = FitConfig.read(tmp_path)
                except VisiongraftError as error:
                    refused += 1
                    assert "\n" not in str(error)
                    assert str(tmp_path / "config.json") in str(error)
                else:
                    assert isinstance(config.schedule["options"], dict)
    assert refused > 250


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("data", 5, "data=5 is not a string"),
        ("resize", ["crop"], r"resize=\['crop'\] is not a string"),
        ("size", (224, 0), r"size=\(224, 0\) is not a height and a width"),
        ("size", (224.0, 224.0), "is not a height and a width"),
        ("task_options", [], r"task_options=\[\] is not a set of values by name"),
    ],
)
def test_a_value_of_another_type_is_refused(
    make_config: Any, setting: str, value: Any, words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        make_config(**{setting: value})
