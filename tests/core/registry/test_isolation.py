"""A plugin whose import would end the process is recorded as broken, and nothing else suffers."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from visiongraft.errors import PluginError
from visiongraft.registry import isolation
from visiongraft.registry.isolation import ProcessEnd, check_import, exits_refused
from visiongraft.registry.manager import PluginManager
from visiongraft.registry.sources import import_file

REAL = {name: getattr(isolation, name) for name in ("_import_in_child", "_write_results")}


@pytest.fixture(autouse=True)
def _in_child_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what tests/conftest.py leaves out."""
    for name, function in REAL.items():
        monkeypatch.setattr(isolation, name, function)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package on the import path, whose helper decides how its import ends."""
    folder = tmp_path / "path" / "ending_plugin"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "task.py").write_text("import os, signal, sys\nfrom ending_plugin import helper\n")
    (folder / "helper.py").write_text("")
    monkeypatch.syspath_prepend(str(folder.parent))
    importlib.invalidate_caches()
    yield folder
    for name in [name for name in sys.modules if name.startswith("ending_plugin")]:
        del sys.modules[name]


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules that were to be imported in child processes."""
    real, found = isolation._import_in_child, list[str]()

    def counting(modules: Sequence[str]) -> dict[str, str]:
        found.extend(modules)
        return real(modules)

    monkeypatch.setattr(isolation, "_import_in_child", counting)
    return found


CODE = "import os, signal, sys\n{}\n"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("os._exit(7)", r"it ends the process when it is imported \(exit code 7\); repair it"),
        ("os._exit(0)", r"it ends the process when it is imported \(exit code 0\)"),
        ("os.abort()", r"it ends the process when it is imported \(signal SIGABRT\)"),
        ("raise KeyboardInterrupt", "it raises KeyboardInterrupt when it is imported"),
    ],
)
def test_an_import_that_ends_the_process_is_refused(package: Path, code: str, words: str) -> None:
    (package / "helper.py").write_text(CODE.format(code))
    for _ in range(2):
        with pytest.raises(PluginError, match=f"{words}.*--no-plugin NAME") as caught:
            check_import("ending_plugin.task", "ending-plugin")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("code", ["", "raise GeneratorExit", "sys.exit(3)", "print('hello')"])
def test_other_imports_are_left_to_this_process(package: Path, code: str) -> None:
    (package / "helper.py").write_text(CODE.format(code))
    check_import("ending_plugin.task", "ending-plugin")
    assert "ending_plugin" not in sys.modules


def test_a_content_is_tried_once(package: Path, children: list[str]) -> None:
    for _ in range(3):
        check_import("ending_plugin.task", "ending-plugin")
    assert children == ["ending_plugin.task"]
    (package / "helper.py").write_text(CODE.format("os._exit(7)"))
    for _ in range(3):
        with pytest.raises(PluginError, match="exit code 7"):
            check_import("ending_plugin.task", "ending-plugin")
    assert len(children) == 2
    (package / "helper.py").write_text("")  # it is repaired
    check_import("ending_plugin.task", "ending-plugin")
    assert len(children) == 2


def test_a_death_that_may_be_due_to_the_machine_is_tried_again(
    package: Path, children: list[str]
) -> None:
    (package / "helper.py").write_text(CODE.format("os.kill(os.getpid(), signal.SIGKILL)"))
    for _ in range(2):
        with pytest.raises(PluginError, match="signal SIGKILL"):
            check_import("ending_plugin.task", "ending-plugin")
    assert len(children) == 2


def test_several_modules_are_tried_in_one_child_until_one_ends_it(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tried = isolation._run_child, list[int]()

    def counting(modules: Sequence[str]) -> tuple[list[str], str]:
        tried.append(len(modules))
        return real(modules)

    monkeypatch.setattr(isolation, "_run_child", counting)
    for name, code in {"a": "", "b": "raise OSError", "c": "os._exit(7)", "d": ""}.items():
        (package / f"{name}.py").write_text(CODE.format(code))
    modules = [f"ending_plugin.{name}" for name in "abcd"]
    (refused,) = isolation.refused_imports((m, "ending-plugin") for m in modules).items()
    assert refused[0] == "ending_plugin.c"
    assert "exit code 7" in str(refused[1])
    assert tried == [4, 1]


def test_damaged_or_unwritable_results_only_cost_time(
    package: Path, children: list[str], tmp_path: Path
) -> None:
    path = isolation._results_file()
    path.parent.mkdir(parents=True)
    path.write_text("[")
    check_import("ending_plugin.task", "ending-plugin")
    path.unlink()
    path.mkdir()
    check_import("ending_plugin.task", "ending-plugin")
    assert len(children) == 2


def test_own_plugins_and_imported_ones_are_not_tried(children: list[str]) -> None:
    check_import("visiongraft.plugins.backbones", "visiongraft")
    check_import("json", "elsewhere")
    check_import("no_such_module", "elsewhere")
    assert children == []


def test_a_call_that_ends_the_process_is_an_error_during_imports() -> None:
    ends = os._exit, os.abort
    for end in ("_exit", "abort"):
        with pytest.raises(ProcessEnd, match=rf"os\.{end}\(\) was called"), exits_refused():
            getattr(os, end)(*([3] if end == "_exit" else []))
    assert (os._exit, os.abort) == ends


def test_a_child_of_a_plugin_may_end_during_its_import() -> None:
    with exits_refused():
        child = os.fork()
        if child == 0:
            os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5


# ---- plugin files ----


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A plugin file; what importing it leaves is removed."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(isolation, "can_copy", lambda: sys.platform == "linux")
    before = set(sys.modules)
    yield tmp_path / "my_ending_file.py"
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How imports of files in copies of this process ended."""
    real, found = isolation.try_in_copy, list[str]()

    def noting(function: Callable[[], object], patience: float) -> str:
        found.append(real(function, patience))
        return found[-1]

    monkeypatch.setattr(isolation, "try_in_copy", noting)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="needs a copy of the process")
def test_a_file_whose_import_does_not_end_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "PATIENCE", 1.0)
    file.write_text("while True:\n    pass\n")
    with pytest.raises(
        PluginError, match=r"my_ending_file\.py: it is not imported within 1 seconds"
    ):
        import_file(file)


def test_a_file_that_calls_the_end_of_the_process_is_refused_with_its_line(file: Path) -> None:
    file.write_text("import os\ntry:\n    os._exit(1)\nexcept Exception:\n    pass\n")
    words = r"plugin file .*my_ending_file\.py cannot be imported \(at my_ending_file\.py:3\): "
    with pytest.raises(PluginError, match=rf"{words}ProcessEnd: os\._exit\(\) was called"):
        import_file(file)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            r"it ends the process when it is imported \(signal SIGKILL\)",
        ),
        (
            "os.kill(os.getpid(), signal.SIGTERM)",
            r"it ends the process when it is imported \(signal SIGTERM\)",
        ),
        ("ctypes.CDLL(None)._exit(7)", r"it ends the process when it is imported \(exit code 7\)"),
        ("raise KeyboardInterrupt", "it raises KeyboardInterrupt when it is imported"),
    ],
)
@pytest.mark.parametrize("copied", [True, False])
def test_a_file_whose_import_ends_the_process_is_refused(
    file: Path, code: str, words: str, copied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not copied:
        monkeypatch.setattr(isolation, "can_copy", lambda: False)
    file.write_text(f"import ctypes, os, signal\n{code}\n")
    for _ in range(2):
        with pytest.raises(PluginError, match=rf"my_ending_file\.py: {words}$") as caught:
            import_file(file)
        assert "\n" not in str(caught.value)
        assert file.stem not in sys.modules


def test_a_file_is_tried_once_for_each_content_of_it_and_its_helpers(
    file: Path, copies: list[str], children: list[str]
) -> None:
    helper, package = file.with_name("ending_helper.py"), file.with_name("ending_package")
    package.mkdir()
    contents = {
        file: "import ending_helper\n",
        helper: "def later():\n    from ending_package import inner\n",
        package / "__init__.py": "",
        package / "inner.py": "",
        file.with_name("unrelated.py"): "",
    }
    for path, content in contents.items():
        path.write_text(content)
    for changed in (None, *contents):
        if changed is not None:
            changed.write_text(f"{contents[changed]}\n# changed\n")
        for _ in range(2):
            import_file(file)
            for name in ("my_ending_file", "ending_helper"):
                del sys.modules[name]
    assert copies == ["returns"] * 5
    assert children == []


def test_a_file_that_only_raises_is_left_to_this_process(file: Path, copies: list[str]) -> None:
    file.write_text("raise ValueError('mine')\n")
    for _ in range(2):
        with pytest.raises(PluginError, match=r"my_ending_file\.py:1\): ValueError: mine"):
            import_file(file)
    assert copies == ["raises"]


def test_a_file_that_only_ends_copies_is_used(
    file: Path, children: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs in a new process and not in a copy may hold something that cannot be copied."""
    file.write_text(f"import os\nif os.getppid() == {os.getpid()} and {os.getpid()}:\n    x = 1\n")
    file.write_text(
        "import os, signal, sys\n"
        "if 'pytest' in sys.modules and os.getpid() != int(os.environ['OWNER']):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.setenv("OWNER", str(os.getpid()))
    assert import_file(file).__name__ == file.stem
    assert children == [file.stem]


def test_a_file_that_cannot_be_parsed_is_refused_as_such(file: Path) -> None:
    file.write_text("def broken(:\n")
    with pytest.raises(PluginError, match="SyntaxError"):
        import_file(file)


# ---- several plugins ----


def test_a_broken_distribution_leaves_the_others_usable(package: Path) -> None:
    (package / "helper.py").write_text(CODE.format("os._exit(7)"))
    info = package.parent / "ending_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ending-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[visiongraft]\nending = ending_plugin.task\n")
    manager = PluginManager()
    (record,) = (each for each in manager.records if each.name == "ending")
    assert record.failures[0].startswith("it ends the process when it is imported (exit code 7)")
    assert "lp_ft" in manager.schedules()
