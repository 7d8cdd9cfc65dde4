"""Commands that other packages add to the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from visiongraft.cli import app, main
from visiongraft.cli.entry_points import GROUP, added_commands

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
def greeter(install: Callable[..., Path]) -> Callable[..., None]:
    """Install a distribution with commands."""

    def greeter(points: str, code: str = COMMAND, name: str = "greeter") -> None:
        install(name, f"[{GROUP}]\n{points}\n", greeter_commands=code)

    return greeter


def test_a_third_party_command_runs_like_a_built_in_one(
    greeter: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    greeter("say-hello = greeter_commands:greet")
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
    greeter: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    greeter("tasks = greeter_commands:greet\nnew-plugin = greeter_commands:greet")
    assert main(["--help"]) == 0
    assert "Greet NAME." not in capsys.readouterr().out
    assert main(["new-plugin", "--help"]) == 0
    assert "plugin package" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import os\nos._exit(0)", "ProcessEnd: os._exit() was called during the import"),
        ("raise GeneratorExit", "GeneratorExit"),
    ],
)
def test_a_broken_command_is_named_and_harms_no_other(
    greeter: Callable[..., None], capsys: pytest.CaptureFixture[str], code: str, cause: str
) -> None:
    greeter("hello = greeter_commands:greet", code)
    assert main(["--help"]) == 0
    assert main(["schedules"]) == 0
    capsys.readouterr()
    assert main(["hello"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: command 'hello' (greeter_commands:greet) cannot be loaded: ")
    assert cause in err
    assert len(err.splitlines()) == 1


def test_a_command_of_two_distributions_is_neither_until_one_is_disabled(
    greeter: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("greeter", "other"):
        greeter("say-hello = greeter_commands:greet", name=name)
    assert main(["say-hello", "--json"]) == 2
    words = "command 'say-hello' is provided by greeter 1.5 and other 1.5; disable one with"
    assert words in capsys.readouterr().err
    monkeypatch.setenv("VISIONGRAFT_DISABLE_PLUGINS", "other")
    assert main(["say-hello", "you"]) == 0


@pytest.mark.parametrize("name", ["greeter", "say-hello"])
def test_a_disabled_command_is_not_there_and_not_imported(
    greeter: Callable[..., None], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    greeter("say-hello = greeter_commands:greet", "raise SystemExit")
    assert main(["say-hello", "you", "--no-plugin", name]) == 2
    assert "No such command" in capsys.readouterr().err
    assert main(["plugins", "--no-plugin", name]) == 0
    row = next(r for r in capsys.readouterr().out.splitlines() if r.startswith("say-hello"))
    assert row.split()[1:] == ["greeter", "1.5", "-", "disabled"]


def test_commands_are_added_once_and_for_one_command_line() -> None:
    before = list(app.registered_commands)
    for _ in range(2):
        with added_commands(app):
            names = [command.name for command in app.registered_commands if command.name]
            assert {"bench", "verify"} <= set(names)
            assert len(names) == len(set(names))
    assert app.registered_commands == before
