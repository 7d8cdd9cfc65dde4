"""A setting is defined once: as a field of ``FitConfig``."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import pytest
import typer

import visiongraft
from visiongraft.cli.app import app
from visiongraft.cli.output import Answer
from visiongraft.cli.settings import given_settings, takes_settings
from visiongraft.config import Decay, FitConfig, differences, setting
from visiongraft.errors import OptionError

SETTINGS = {field.name: field for field in fields(FitConfig)}
FIT = inspect.signature(visiongraft.fit, eval_str=True).parameters

# Settings that ``fit`` takes in more forms than ``config.json`` stores.
CONVERTED = {"data", "task", "task_options", "backbone", "weights", "schedule", "size", "replay"}
CONVERTED |= {
    "transfer_loss",
    "groups",
    "metrics",
    "augment",
    "adapters",
    "evaluate_on",
    "privacy",
    "streams",
    "start",
    "batch_size",
    "epochs",
    "budget",
}


@dataclass(frozen=True)
class Extended(FitConfig):
    """The settings and one more, defined nowhere else."""

    mixing: Decay = setting(0.25, "Fraction of images that are mixed")


@pytest.fixture
def extended(make_config: Any) -> Callable[[float], Extended]:
    return lambda mixing: Extended(**asdict(make_config()), mixing=mixing)


# ---- one definition ----


@pytest.mark.parametrize(
    ("words", "given"), [([], {}), (["--mixing", "0.5"], {"mixing": 0.5})], ids=["default", "given"]
)
def test_a_new_setting_becomes_an_option(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    given: dict[str, Any],
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    program = typer.Typer()

    @program.command()
    @takes_settings(Extended)
    def command(ctx: typer.Context, **settings: Any) -> Answer:
        assert settings["mixing"] == given.get("mixing", 0.25)
        return Answer(given_settings(ctx, settings))

    answer = program(words, standalone_mode=False)
    assert answer.values == given
    program(["--help"], standalone_mode=False)
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if "--mixing" in line)
    assert "Fraction of images that are mixed. [default: 0.25]" in line
    assert "<float>" in line


def test_a_new_setting_is_stored_in_the_config_file(
    extended: Callable[[float], Extended], tmp_path: Path
) -> None:
    config = extended(0.5)
    config.write(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["mixing"] == 0.5
    assert Extended.read(tmp_path) == config


def test_a_new_setting_is_validated(extended: Callable[[float], Extended]) -> None:
    with pytest.raises(OptionError, match=r"mixing=1.5 is not a decay in \(0, 1\)"):
        extended(1.5)


def test_a_new_setting_is_compared_on_resume(extended: Callable[[float], Extended]) -> None:
    assert differences({"mixing": 0.5}, extended(0.25)) == ["mixing=0.5 (the run has 0.25)"]
    assert differences({"mixing": 0.25}, extended(0.25)) == []


# ---- its two mirrors: the signature of fit and its docstring ----


def test_fit_has_every_setting_and_six_parameters_that_are_none() -> None:
    others = {"out", "learning_rate", "resume", "allow_changed_data", "callbacks", "trackers"}
    assert set(FIT) == {*SETTINGS, *others}


@pytest.mark.parametrize("name", SETTINGS)
def test_fit_has_the_default_and_the_type_of_each_setting(name: str) -> None:
    default = FIT[name].default
    assert (default, type(default)) == (
        SETTINGS[name].metadata["default"],
        type(SETTINGS[name].metadata["default"]),
    )
    stored = get_type_hints(FitConfig)[name]
    if name in CONVERTED:
        assert FIT[name].annotation != stored
    else:
        assert FIT[name].annotation == stored


@pytest.mark.parametrize("name", FIT)
def test_every_parameter_of_fit_is_documented(name: str) -> None:
    text = documentation()[name]
    assert text[0].isupper()
    assert text.endswith(".")
    if name in SETTINGS:
        assert plain(text).startswith(plain(SETTINGS[name].metadata["help"]))


@pytest.mark.parametrize("name", FIT)
def test_every_parameter_of_fit_is_described_on_the_command_line(name: str) -> None:
    (command,) = (c for c in typer.main.get_group(app).commands.values() if c.name == "fit")
    (parameter,) = (
        p
        for p in command.params
        if p.name == {"callbacks": "callback", "trackers": "tracker"}.get(name, name)
    )
    assert parameter.help.endswith(".")
    if name in SETTINGS and NoneType in get_args(get_type_hints(FitConfig)[name]):
        default = SETTINGS[name].metadata["default"]
        assert name == "data" or default is not None or SETTINGS[name].metadata["shown"]


def documentation() -> dict[str, str]:
    """Read the descriptions of the parameters from the docstring of ``fit``."""
    arguments = inspect.getdoc(visiongraft.fit).partition("Args:\n")[2].partition("\n\n")[0]
    texts: dict[str, str] = {}
    name = ""
    for line in arguments.splitlines():
        if line.startswith(" " * 8):  # a continued line
            texts[name] += " " + line.strip()
        else:
            name, _, text = line.strip().partition(": ")
            texts[name] = text
    return texts


def plain(text: str) -> str:
    """Drop what marks code in the docstring and in the help."""
    return text.replace("`", "").replace('"', "").replace("None", "none")
