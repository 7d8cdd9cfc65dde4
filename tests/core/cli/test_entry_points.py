"""Commands that other packages add to the command line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import typer

from visiongraft.cli import app, entry_points, main

COMMAND = """
from typing import Annotated
import typer
from visiongraft.cli.options import Json
from visiongraft.cli.output import Answer

def greet(
    name: Annotated[str, typer.Argument(help="Whom.")], as_json: Json = False
) -> Answer:
    '''Greet NAME.'''
    return Answer({"name": name}, [f"hello {name}"], exit_code=len(name) == 1)
"""


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the commands that a test adds, as in a new process."""
    monkeypatch.setattr(app, "registered_commands", list(app.registered_commands))


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, points: str, code: str) -> None:
    info = folder / "greeter-1.dist-info"
    info.mkdir(parents=True)
    (folder / "greeter_commands.py").write_text(code)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greeter\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{entry_points.GROUP}]\n{points}\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "greeter_commands", raising=False)
    importlib.invalidate_caches()


def test_a_third_party_command_runs_like_a_built_in_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fresh: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(tmp_path, monkeypatch, "say-hello = greeter_commands:greet", COMMAND)
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "say-hello" in out
    assert "Greet NAME." in out
    assert main(["say-hello", "you"]) == 0
    assert capsys.readouterr().out == "hello you\n"
    assert main(["say-hello", "x", "--json"]) == 1
    assert capsys.readouterr().out == '{"name": "x"}\n'
    assert main(["say-hello"]) == 2
    assert "Missing argument" in capsys.readouterr().err


def test_a_built_in_command_cannot_be_replaced(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fresh: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    points = "tasks = greeter_commands:greet\nnew-plugin = greeter_commands:greet"
    install(tmp_path, monkeypatch, points, COMMAND)
    assert main(["--help"]) == 0
    assert "Greet NAME." not in capsys.readouterr().out
    assert main(["new-plugin", "--help"]) == 0
    assert "plugin package" in capsys.readouterr().out


def test_a_broken_command_is_named_and_harms_no_other(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fresh: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(tmp_path, monkeypatch, "hello = greeter_commands:greet", "import no_such_module")
    assert main(["--help"]) == 0
    assert main(["schedules"]) == 0
    capsys.readouterr()
    assert main(["hello"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: command 'hello' (greeter_commands:greet) could not be loaded: ")
    assert "No module named 'no_such_module'" in err
    assert len(err.splitlines()) == 1


def test_commands_are_added_once(fresh: None) -> None:
    fresh_app = typer.Typer()
    entry_points.add_commands(fresh_app)
    names = [command.name for command in fresh_app.registered_commands]
    entry_points.add_commands(fresh_app)
    assert [command.name for command in fresh_app.registered_commands] == names
    assert len(names) == len(set(names))
