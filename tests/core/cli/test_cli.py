from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import visiongraft
from visiongraft.backbone import BackboneSource
from visiongraft.cli import main
from visiongraft.cli.failures import failure_of
from visiongraft.cli.listings import _format
from visiongraft.cli.options import describe_type, parse_bytes, parse_size, parse_value
from visiongraft.cli.output import Answer, table, to_json
from visiongraft.data.readers import DataReader
from visiongraft.errors import ExportError, OptionError
from visiongraft.exporter import Exporter
from visiongraft.hookspecs import hookimpl
from visiongraft.registry import manager as manager_module
from visiongraft.registry.manager import PluginManager
from visiongraft.training.transfer_losses import TransferLoss

COMMANDS = ["fit", "lr-find", "evaluate", "predict", "export", "soup", "wise-ft", "demo"]
COMMANDS += ["tasks", "backbones", "schedules", "exporters", "readers", "losses", "plugins"]
COMMANDS += ["new-plugin", "check-plugin"]
FIT = ["fit", "x", "--out", "y"]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each command in its own folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; returns exit code, standard output and standard error."""

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def process(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=300,
    )


def python(code: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python process of its own."""
    return process(sys.executable, "-c", code, *words, **environment)


def raising(error: BaseException) -> Callable[..., Any]:
    def command(*_: object, **__: object) -> Any:
        raise error

    return command


# ---- help and speed ----


@pytest.mark.parametrize("words", [["--help"], ["fit", "--help"], ["--version"], ["nonsense"]])
def test_help_and_version_load_neither_torch_nor_plugins(words: list[str]) -> None:
    code = (
        "import sys; from visiongraft.cli import main; main(sys.argv[1:]); "
        "heavy = {'torch', 'timm', 'numpy', 'onnxruntime', 'visiongraft.registry.manager', 'matplotlib'}; "
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    done = python(code, *words)
    assert done.stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_takes_json(run: Run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "--json" in out


def test_the_program_alone_shows_its_commands(run: Run) -> None:
    code, out, _ = run()
    assert code == 0
    assert all(command in out for command in COMMANDS)


def test_the_version_is_shown(run: Run) -> None:
    assert run("--version") == (0, f"visiongraft {visiongraft.__version__}\n", "")


WITHOUT_PLUGINS = {"VISIONGRAFT_DISABLE_PLUGINS": "visiongraft"}  # and so without torch


def test_the_module_runs_as_a_program_without_escape_codes_in_a_pipe() -> None:
    done = process(sys.executable, "-m", "visiongraft", "plugins", **WITHOUT_PLUGINS)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].startswith("plugin ")
    assert len([line for line in lines if line.startswith("schedules ")]) == 1
    assert all(line == line.rstrip() for line in lines)


# ---- listings ----


def test_schedules_are_listed_with_their_options(run: Run) -> None:
    code, out, err = run("schedules", "--json")
    found = {s["name"]: s for s in json.loads(out)["schedules"]}
    assert (code, err) == (0, "")
    assert {"linear_probe", "full", "lp_ft", "gradual", "milestones", "last_n"} <= found.keys()
    assert found["last_n"]["options"]["n"] == 1
    assert found["last_n"]["description"]


def test_tasks_are_listed_with_the_options_that_set_takes(run: Run) -> None:
    code, out, _ = run("tasks", "--json")
    tasks = json.loads(out)["tasks"]
    assert code == 0
    assert tasks
    for task in tasks:
        assert task["headline"]
        assert task["better"] in ("higher", "lower")
        assert all(option["type"] for option in task["options"])
    code, out, _ = run("tasks")
    assert code == 0
    assert all(task["name"] in out for task in tasks)


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch) -> PluginManager:
    """Install one sound third-party plugin and nothing else."""

    class Echo(Exporter):
        """Repeats the model."""

        name = "echo"
        suffix = ".echo"

        def export(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    class Nets(BackboneSource):
        prefix = "nets"

        def names(self) -> list[str]:
            return ["small", "Large", "larger"]

        def build(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    class Scrolls(DataReader):
        """Reads scrolls."""

        name = "scrolls"
        targets = "labels"

        def claims(self, data: Any) -> bool:
            raise NotImplementedError

        def read(self, data: Any) -> Any:
            raise NotImplementedError

    class Pull(TransferLoss):
        """Pulls."""

        name = "pull"

        def __init__(self, backbone: Any, source: Any, *, force: float = 0.5, by: Any) -> None:
            raise NotImplementedError

        def forward(self, step: Any) -> Any:
            raise NotImplementedError

    class Plugin:
        @hookimpl
        def register_readers(self) -> list[DataReader]:
            return [Scrolls()]

        @hookimpl
        def register_losses(self) -> list[type[TransferLoss]]:
            return [Pull]

        @hookimpl
        def register_exporters(self) -> list[type[Exporter]]:
            return [Echo]

        @hookimpl
        def register_backbones(self) -> list[BackboneSource]:
            return [Nets()]

    manager = PluginManager(discover=False)
    manager.register(Plugin(), "third-party")
    monkeypatch.setattr(manager_module, "plugins", lambda: manager)
    return manager


@pytest.mark.usefixtures("third_party")
def test_exporters_are_listed(run: Run) -> None:
    code, out, _ = run("exporters", "--json")
    found = [{"name": "echo", "suffix": ".echo", "description": "Repeats the model."}]
    assert (code, json.loads(out)) == (0, {"exporters": found})


@pytest.mark.usefixtures("third_party")
def test_readers_are_listed_with_their_targets(run: Run) -> None:
    code, out, _ = run("readers", "--json")
    found = [{"name": "scrolls", "targets": "labels", "description": "Reads scrolls."}]
    assert (code, json.loads(out)) == (0, {"readers": found})
    code, out, _ = run("readers")
    assert (code, out.splitlines()[1].split()) == (0, ["scrolls", "labels", "Reads", "scrolls."])


@pytest.mark.usefixtures("third_party")
def test_transfer_losses_are_listed_with_their_options(run: Run) -> None:
    code, out, _ = run("losses", "--json")
    options = {"force": 0.5, "by": None}
    found = [{"name": "pull", "description": "Pulls.", "options": options}]
    assert (code, json.loads(out)) == (0, {"losses": found})
    code, out, _ = run("losses")
    assert (code, out.splitlines()[1].split()) == (0, ["pull", "force=0.5,", "by=none", "Pulls."])


def test_built_in_transfer_losses_are_listed(run: Run) -> None:
    found = {each["name"]: each for each in json.loads(run("losses", "--json")[1])["losses"]}
    assert found["l2_sp"]["options"] == {"alpha": 0.1, "beta": 0.01}
    assert found["lwf"]["options"].keys() == {"strength", "temperature"}  # not the source head


@pytest.mark.usefixtures("third_party")
@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ["nets/small", "nets/Large", "nets/larger"]),
        (["LARGE"], ["nets/Large", "nets/larger"]),
        (["nets/*e"], ["nets/Large"]),
        (["s/s"], ["nets/small"]),
    ],
)
def test_backbones_are_found_by_part_or_pattern(
    run: Run, words: list[str], names: list[str]
) -> None:
    assert run("backbones", *words) == (0, "".join(f"{name}\n" for name in names), "")
    assert json.loads(run("backbones", *words, "--json")[1]) == {"backbones": names}


@pytest.mark.usefixtures("third_party")
def test_a_pattern_without_backbones_is_invalid_and_near_names_are_suggested(run: Run) -> None:
    code, out, err = run("backbones", "nets/smal1")
    assert (code, out) == (2, "")
    assert err == "error: no backbone 'nets/smal1'; did you mean 'nets/small'?\n"


@pytest.mark.usefixtures("third_party")
def test_sound_plugins_exit_with_0(run: Run) -> None:
    code, out, err = run("plugins")
    assert (code, err) == (0, "")
    heading, line = out.splitlines()
    assert heading.split() == ["plugin", "distribution", "version", "API", "provides"]
    assert line.split(maxsplit=4)[3:] == [
        "-",
        "backbone nets; exporter echo; reader scrolls; loss pull",
    ]


def test_a_broken_plugin_is_shown_with_its_cause_and_exits_with_1(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    @hookimpl
    def register_tusks() -> list[object]:
        return []

    manager = PluginManager(discover=False)
    manager.register(SimpleNamespace(register_tusks=register_tusks), "tusks")
    monkeypatch.setattr(manager_module, "plugins", lambda: manager)
    code, out, _ = run("plugins")
    assert code == 1
    assert "problem: plugin tusks: unknown hook 'register_tusks'" in out
    code, out, _ = run("plugins", "--json")
    assert code == 1
    assert json.loads(out)["plugins"][0]["problems"]


# ---- invalid arguments ----


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fitt"], "No such command 'fitt'. Did you mean 'fit'?"),
        (["train", "x"], "No such command 'train'. Did you mean 'fit'?"),
        (["val", "x"], "No such command 'val'. Did you mean 'evaluate'?"),
        ([*FIT, "--lr", "1"], "No such option: --lr; did you mean --learning-rate?"),
        ([*FIT, "--imgsz=64"], "No such option: --imgsz; did you mean --size?"),
        ([*FIT, "--amp"], "No such option: --amp; did you mean --precision?"),
        ([*FIT, "--batch", "8"], "No such option: --batch; did you mean --batch-size?"),
        ([*FIT, "--time", "1h"], "No such option: --time; did you mean --budget?"),
        ([*FIT, "--classes", "3"], "toy): --task NAME --set classes=VALUE"),
        ([*FIT, "--epoch", "3"], "No such option: --epoch (Possible options"),
        (["fit"], "Missing argument 'DATA'"),
        (["fit", "x", "--resume"], "--resume requires --out FOLDER"),
        ([*FIT, "--epochs", "many"], "Invalid value for '--epochs'"),
        ([*FIT, "--size", "axb"], "--size axb: expected pixels, such as 224"),
        ([*FIT, "--replay-budget", "lots"], "--replay-budget lots: expected"),
        (
            [*FIT, "--task", "toy", "--set", "classes"],
            "--set classes: expected NAME=VALUE",
        ),
        ([*FIT, "--task", "toy", "--set", "clases=1"], "did you mean 'classes'?"),
        ([*FIT, "--task", "toy", "--set", "classes=many"], "--set classes=many: expected integer"),
        ([*FIT, "--set", "classes=1"], "name the task with --task NAME"),
        (FIT, "x does not exist"),
        (["plugins", "--jsno"], "No such option: --jsno (Possible options: --json)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_arguments_are_one_line_and_exit_with_2(
    run: Run, words: list[str], message: str
) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_with_json_an_error_is_an_object_too(run: Run) -> None:
    code, out, err = run("schedules", "--jsonn", "--json")
    assert code == 2
    assert json.loads(out) == {"error": err.removeprefix("error: ").strip(), "exit_code": 2}


# ---- failures ----


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OptionError("two\nlines"), 2, "two lines"),
        (ExportError("proof"), 1, "proof"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/y"),
            2,
            "no space left on the device for /x/y; free",
        ),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded"),
            2,
            "no space left on the device; free some space",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 2, "/x: Permission denied"),
        (MemoryError(), 2, "out of memory; try a smaller"),
        (RuntimeError("DefaultCPUAllocator: not enough memory"), 2, "out of memory; try"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_expected_failures_are_one_line(error: Exception, code: int, message: str) -> None:
    failure = failure_of(error)
    assert failure.exit_code == code
    assert message in failure.message
    assert "\n" not in failure.message


def test_a_bug_is_one_line_that_names_the_file_with_the_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager_module, "plugins", raising(KeyError("inner")))
    code, out, err = run("schedules")
    assert (code, out) == (3, "")
    assert re.match(r"error: error in test_cli.py:\d+: KeyError: 'inner'; the traceback is", err)
    assert err.count("\n") == 1
    log = Path(err.rpartition(" in ")[2].strip())
    assert "raise error" in log.read_text()
    log.unlink()


def test_a_bug_outside_user_code_is_called_a_bug() -> None:
    code = (
        "import math, visiongraft.registry.manager as m; m.plugins = lambda: math.sqrt(-1); "
        "from visiongraft.cli import main; sys.exit(main(['schedules']))"
    )
    done = python("import sys; " + code)
    assert done.stderr.startswith("error: bug in visiongraft or a plugin: ValueError")
    Path(done.stderr.rpartition(" in ")[2].strip()).unlink()


def test_a_bug_shows_its_traceback_on_request() -> None:
    code = (
        "import sys, visiongraft.registry.manager as m; m.plugins = lambda: 1 / 0; "
        "from visiongraft.cli import main; sys.exit(main(['schedules']))"
    )
    done = python(code, VISIONGRAFT_TRACEBACK="1")
    assert done.returncode == 3
    assert "Traceback (most recent call last)" in done.stderr
    assert "ZeroDivisionError" in done.stderr.splitlines()[-1]


def test_a_bug_on_a_full_disk_is_still_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.mkstemp", raising(OSError(errno.ENOSPC, "full")))
    failure = failure_of(KeyError("x"))
    assert "set VISIONGRAFT_TRACEBACK=1 to see the traceback" in failure.message


def test_an_interrupt_exits_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_module, "plugins", raising(KeyboardInterrupt()))
    assert run("schedules") == (130, "", "error: interrupted\n")


def test_a_reader_that_stops_early_gets_no_traceback() -> None:
    command = f"{sys.executable} -m visiongraft plugins | head -n 1"
    done = process("bash", "-c", command, **WITHOUT_PLUGINS)
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr


# ---- json on standard output ----


def test_with_json_nothing_else_reaches_standard_output() -> None:
    """Output of C libraries and of child processes is redirected too."""
    code = (
        "import os, subprocess, sys\n"
        "import visiongraft.registry.manager as m\n"
        "def noisy():\n"
        "    print('from python')\n"
        "    os.write(1, b'from c\\n')\n"
        "    subprocess.run(['echo', 'from a child'])\n"
        "    return m.PluginManager(discover=False)\n"
        "m.plugins = noisy\n"
        "from visiongraft.cli import main\n"
        "code = main(['schedules', '--json'])\n"
        "os.write(1, b'restored\\n')\n"
    )
    done = python(code)
    first, *rest = done.stdout.splitlines()
    assert "schedules" in json.loads(first)
    assert rest == ["restored"]
    for noise in ("from python", "from c", "from a child"):
        assert noise in done.stderr


def test_without_json_prints_are_left_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = manager_module.plugins

    def noisy() -> PluginManager:
        print("noise")
        return real()

    monkeypatch.setattr(manager_module, "plugins", noisy)
    assert run("schedules")[1].startswith("noise\n")


def test_only_the_first_process_of_a_distributed_run_prints(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert run("schedules", "--json") == (0, "", "")
    assert run("schedules") == (0, "", "")


def test_the_output_of_commands_is_converted_to_json_values() -> None:
    value = {
        1: (np.float32(0.5), np.arange(2)),
        "nan": float("nan"),
        "inf": np.inf,
        "path": Path("a"),
        "record": Answer({"x": {1}}),
        "none": None,
    }
    assert to_json(value) == {
        "1": [0.5, [0, 1]],
        "nan": None,
        "inf": None,
        "path": "a",
        "record": {"values": {"x": [1]}, "parts": [], "exit_code": 0},
        "none": None,
    }


@given(st.recursive(st.none() | st.floats() | st.text(), lambda s: st.lists(s) | st.tuples(s)))
def test_json_values_are_always_strict_json(value: Any) -> None:
    text = json.dumps(to_json(value), allow_nan=False)
    assert json.loads(text) == to_json(value)


def test_text_in_tables_is_not_interpreted_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    Answer({}, [table(["a"], [["[bold]x[/bold] [/]"]]), "[red]y"]).print(sys.stdout, False)
    assert capsys.readouterr().out == "a\n[bold]x[/bold] [/]\n[red]y\n"


# ---- values of options ----


@pytest.mark.parametrize(("text", "size"), [("224", 224), ("192x256", (192, 256))])
def test_sizes_are_read(text: str, size: object) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-3", "2x", "x2", "1x2x3", "1.5", "²"])
def test_impossible_sizes_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="expected pixels"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "count"), [("5", 5), ("2kb", 2000), ("1.5 GB", 1_500_000_000), ("1T", 10**12)]
)
def test_amounts_of_space_are_read(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("0.5", float, 0.5),
        ("3", float, 3),
        ("3", int, 3),
        ("3", str, "3"),
        ('"3"', str, "3"),
        ("true", bool, True),
        ("False", bool, False),
        ("none", float | None, None),
        ("none", str, "none"),
        ("a,b", tuple[str, ...], ["a", "b"]),
        ("[1, 2]", tuple[int, int], [1, 2]),
        ("1,2", tuple[int, ...], [1, 2]),
        ("mlp", Literal["linear", "mlp"], "mlp"),
        ('{"a": 2}', dict[str, float], {"a": 2}),
        ("anything", Any, "anything"),
    ],
)
def test_values_are_read_by_their_type(text: str, kind: Any, value: object) -> None:
    read = parse_value(text, kind, "x")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "described"),
    [
        ("much", float, "number"),
        ("1.5", int, "integer"),
        ("true", int, "integer"),
        ("1", bool, "true or false"),
        ("a,b", tuple[float, ...], "list of number"),
        ("1,2,3", tuple[int, int], "list of integer"),
        ("tree", Literal["linear", "mlp"], "linear or mlp"),
        ("x", float | None, "number or none"),
        ("x", dict[str, float], "JSON object"),
    ],
)
def test_values_of_another_type_are_refused(text: str, kind: Any, described: str) -> None:
    with pytest.raises(OptionError, match=f"^x: expected {described}$"):
        parse_value(text, kind, "x")
    assert describe_type(kind) == described


def test_defaults_are_shown_as_they_are_written() -> None:
    assert [_format(v) for v in (None, True, (1, 2), "x", 0.5)] == [
        "none",
        "true",
        "1,2",
        "x",
        "0.5",
    ]
