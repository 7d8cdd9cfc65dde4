"""Plugin options may stand anywhere, and apply to one command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.cli import main
from visiongraft.cli.plugin_options import Chosen, chosen_arguments, take_choice
from visiongraft.errors import OptionError
from visiongraft.registry.manager import plugins

WORDS = st.sampled_from(["fit", "photos", "--out", "run", "--json", "-x", "--plugins", "--no-p"])


@given(st.lists(st.one_of(WORDS, st.tuples(st.booleans(), st.booleans(), WORDS))))
def test_the_other_arguments_keep_their_order(parts: list[str | tuple[bool, bool, str]]) -> None:
    words, rest, files, blocked = [], [], [], []
    for part in parts:
        if isinstance(part, str):
            words.append(part)
            rest.append(part)
            continue
        load, joined, value = part[0], part[1], part[2].lstrip("-")
        option = "--plugin" if load else "--no-plugin"
        words += [f"{option}={value}"] if joined else [option, value]
        (files if load else blocked).append(value)
    assert take_choice(words) == (Chosen(tuple(files), tuple(blocked)), rest)


def test_arguments_after_two_dashes_are_left_alone() -> None:
    assert take_choice(["--", "--plugin", "x"]) == (Chosen(), ["--", "--plugin", "x"])


@pytest.mark.parametrize("words", [["--plugin"], ["--plugin="], ["--no-plugin", "--json"]])
def test_an_option_without_its_value_is_refused(words: list[str]) -> None:
    with pytest.raises(OptionError, match=f"{words[0].rstrip('=')} requires"):
        take_choice(words)


def test_a_choice_holds_for_one_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    file = tmp_path / "chosen_for_one_command.py"
    file.write_text(
        "from visiongraft import hookimpl\n"
        "from visiongraft.schedules import Phase, schedule\n"
        "@schedule\n"
        "def mine(stages, epochs):\n"
        '    """Mine."""\n'
        "    yield Phase(epochs)\n"
        "@hookimpl\n"
        "def register_schedules():\n"
        "    return [mine]\n"
    )
    before = plugins()
    assert main(["schedules", "--plugin", str(file), "--json"]) == 0
    names = [s["name"] for s in json.loads(capsys.readouterr().out)["schedules"]]
    assert {"mine", "lp_ft"} <= set(names)
    assert main(["--no-plugin", "schedules", "schedules", "--json"]) == 0
    names = [s["name"] for s in json.loads(capsys.readouterr().out)["schedules"]]
    assert "lp_ft" not in names and "surgical" in names
    assert main(["--no-plugin=schedules", "plugins", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)["plugins"]
    assert [r["name"] for r in records if r["disabled"]] == ["schedules"]
    assert plugins() is before
    assert "mine" not in before.schedules()
    assert chosen_arguments() == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--no-plugin", "schedule"], "no plugin 'schedule' to disable; did you mean 'schedules'?"),
        (["--plugin", "nowhere.py"], "nowhere.py does not exist"),
    ],
)
def test_a_wrong_choice_is_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
