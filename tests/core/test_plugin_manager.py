from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.errors import PluginError
from visiongraft.hookspecs import hookimpl
from visiongraft.plugin_manager import (
    DISABLE_VARIABLE,
    KINDS,
    PluginManager,
    PluginRecord,
    plugins,
)
from visiongraft.schedules import Phase, schedule


@schedule
def slow_start(stages: tuple[str, ...], epochs: int):  # type: ignore[no-untyped-def]
    yield Phase(epochs)


@schedule
def fast_end(stages: tuple[str, ...], epochs: int):  # type: ignore[no-untyped-def]
    yield Phase(epochs)


def plugin_with(hook: str = "register_schedules", items: object = (slow_start,)) -> object:
    """Make a plugin object with one hook that gives these items."""
    return SimpleNamespace(**{hook: hookimpl(lambda: items, specname=hook)})


class Installer:
    """Writes real distributions (metadata, entry points and a module) on the import path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, name: str, code: str, *, entry_points: str | None = None) -> None:
        module = name.replace("-", "_")
        (self.folder / f"{module}.py").write_text(code)
        info = self.folder / f"{module}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        points = entry_points or f"[visiongraft]\n{module} = {module}\n"
        (info / "entry_points.txt").write_text(points)


@pytest.fixture
def installer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installer]:
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield Installer(tmp_path)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


GOOD = """
from visiongraft import hookimpl
from visiongraft.schedules import Phase, schedule

@schedule
def installed_one(stages, epochs):
    yield Phase(epochs)

@hookimpl
def register_schedules():
    return [installed_one]
"""


def record_of(manager: PluginManager, name: str) -> PluginRecord:
    return next(record for record in manager.records if record.name == name)


def assert_builtins_survive(manager: PluginManager) -> None:
    assert "lp_ft" in manager.schedules()


# ---- what works ----


def test_a_registered_item_is_found_by_its_name() -> None:
    manager = PluginManager(discover=False)
    record = manager.register(plugin_with(), "mine")
    assert manager.get("schedule", "slow_start") is slow_start
    assert manager.schedules() == {"slow_start": slow_start}
    assert record.provides == {"schedule": ["slow_start"]}
    assert record.problems == []


def test_an_installed_distribution_is_discovered_with_name_and_version(
    installer: Installer,
) -> None:
    installer.install("grafted-extras", GOOD)
    manager = PluginManager()
    record = record_of(manager, "grafted_extras")
    assert (record.distribution, record.version) == ("grafted-extras", "1.5")
    assert manager.get("schedule", "installed_one").name == "installed_one"
    assert_builtins_survive(manager)


def test_the_process_wide_manager_is_made_once() -> None:
    assert plugins() is plugins()


def test_every_kind_has_a_hook_specification() -> None:
    from visiongraft.hookspecs import RegistrationHooks

    specified = {name for name in vars(RegistrationHooks) if name.startswith("register_")}
    assert {kind.hook for kind in KINDS.values()} == specified


def test_listeners_may_be_any_named_class() -> None:
    class Bell:
        name = "bell"

    manager = PluginManager(discover=False)
    manager.register(plugin_with("register_listeners", [Bell]), "mine")
    assert manager.listeners() == {"bell": Bell}


def test_optional_and_variable_arguments_of_a_hook_are_allowed() -> None:
    class Plugin:
        @hookimpl
        def register_schedules(self, extra: int = 1, *more: int, **rest: int) -> list[object]:
            return [slow_start]

    manager = PluginManager(discover=False)
    assert manager.register(Plugin(), "mine").problems == []


# ---- what is broken, each told by name, distribution and cause ----


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import a_library_nobody_has", "No module named 'a_library_nobody_has'"),
        ("raise RuntimeError('line one\\nline two')", "RuntimeError: line one line two"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("x = 1", "it has no hook; mark its functions with visiongraft.hookimpl"),
        (GOOD.replace("register_schedules", "register_schedule"), "unknown hook"),
        (GOOD.replace("register_schedules()", "register_schedules(config)"), "takes no arguments"),
        (GOOD.replace("return [installed_one]", "return 1 / 0"), "ZeroDivisionError"),
        (GOOD.replace("return [installed_one]", "pass"), "register_schedules() returned None"),
        (GOOD.replace("[installed_one]", "['x']"), "gave 'x', which has no name"),
        (GOOD.replace("register_schedules", "register_tasks"), "which is no subclass of Task"),
        (GOOD.replace("[installed_one]", "[type('X', (), {'name': 'x'})]"), "no instance of Sch"),
    ],
)
def test_a_broken_distribution_is_reported_and_takes_no_other_down(
    installer: Installer, code: str, cause: str
) -> None:
    installer.install("broken-extras", code)
    installer.install("grafted-extras", GOOD)
    manager = PluginManager()
    record = record_of(manager, "broken_extras")
    assert len(record.problems) == 1
    assert cause in record.problems[0]
    assert "\n" not in record.problems[0]
    assert record.provides == {}
    assert manager.get("schedule", "installed_one")
    assert_builtins_survive(manager)
    with pytest.raises(PluginError) as caught:
        manager.get("schedule", "what_it_would_have_provided")
    assert f"plugin broken_extras (broken-extras 1.5) failed: {record.problems[0]}" in str(
        caught.value
    )


def test_unreadable_entry_points_are_reported(installer: Installer) -> None:
    installer.install("broken-extras", GOOD, entry_points="[visiongraft]\nno equals sign\n")
    manager = PluginManager()
    record = record_of(manager, "broken-extras")
    assert record.problems[0].startswith("its entry points cannot be read: ")
    assert_builtins_survive(manager)


def test_remains_of_a_removed_distribution_are_passed_over(installer: Installer) -> None:
    installer.install("grafted-extras", GOOD)
    (installer.folder / "grafted_extras-1.5.dist-info" / "METADATA").unlink()
    manager = PluginManager()
    assert "grafted_extras" not in [record.name for record in manager.records]


def test_an_object_that_cannot_even_be_looked_at_is_reported() -> None:
    class Plugin:
        def __dir__(self) -> list[str]:
            raise OSError("no such thing")

    manager = PluginManager(discover=False)
    assert manager.register(Plugin(), "mine").problems == ["OSError: no such thing"]


def test_a_misspelt_hook_is_told_the_right_one() -> None:
    manager = PluginManager(discover=False)
    record = manager.register(plugin_with("register_task"), "mine")
    assert record.problems == ["unknown hook 'register_task'; did you mean 'register_tasks'?"]


def test_one_failing_hook_leaves_the_plugins_other_hooks() -> None:
    class Plugin:
        @hookimpl
        def register_listeners(self) -> list[object]:
            raise KeyError("gone")

        @hookimpl
        def register_schedules(self) -> list[object]:
            return [slow_start]

    manager = PluginManager(discover=False)
    record = manager.register(Plugin(), "mine")
    assert record.problems == ["register_listeners() raised KeyError: 'gone'"]
    assert manager.schedules() == {"slow_start": slow_start}


def test_the_same_object_twice_is_refused() -> None:
    manager = PluginManager(discover=False)
    plugin = plugin_with()
    manager.register(plugin, "first")
    record = manager.register(plugin, "second")
    assert "already registered" in record.problems[0]
    assert manager.get("schedule", "slow_start") is slow_start


# ---- clashes ----


def test_a_name_clash_is_told_on_both_sides_and_raised_only_when_asked_for() -> None:
    manager = PluginManager(discover=False)
    first = manager.register(plugin_with(items=[slow_start, fast_end]), "first")
    second = manager.register(plugin_with(items=[slow_start]), "second")
    assert first.problems == ["schedule 'slow_start' is also provided by plugin second"]
    assert second.problems == ["schedule 'slow_start' is also provided by plugin first"]
    assert manager.schedules() == {"fast_end": fast_end}
    with pytest.raises(PluginError, match="first and plugin second; say 'first:slow_start' or"):
        manager.get("schedule", "slow_start")


def test_a_clash_is_not_blamed_for_an_unrelated_missing_name() -> None:
    manager = PluginManager(discover=False)
    manager.register(plugin_with(), "first")
    manager.register(plugin_with(), "second")
    assert "failed" not in manager.missing("task", "pose", [])


def test_a_plugin_that_gives_one_name_twice_clashes_with_itself() -> None:
    manager = PluginManager(discover=False)
    record = manager.register(plugin_with(items=[slow_start, slow_start]), "mine")
    assert record.problems == ["schedule 'slow_start' is also provided by plugin mine"]


def test_a_clash_of_prefixes_is_told_to_who_asks_for_a_full_backbone_name() -> None:
    from visiongraft.backbone import BackboneSource

    class Mine(BackboneSource):
        prefix = "mine"

        def names(self) -> list[str]:
            return ["net"]

        def build(self, name: str, **options: object) -> object:  # type: ignore[override]
            raise NotImplementedError

    manager = PluginManager(discover=False)
    manager.register(plugin_with("register_backbones", [Mine()]), "a")
    assert list(manager.backbone_sources()) == ["mine"]
    manager.register(plugin_with("register_backbones", [Mine()]), "b")
    assert manager.backbone_sources() == {}
    message = manager.missing("backbone", "mine/net", [])
    assert message.startswith("backbone 'mine' is provided by plugin a and plugin b; say 'a:mine'")


@pytest.mark.parametrize("blocked", ["grafted_extras", "Grafted.Extras", " x , grafted-extras"])
def test_a_plugin_is_disabled_by_its_name_or_its_distributions(
    installer: Installer, monkeypatch: pytest.MonkeyPatch, blocked: str
) -> None:
    installer.install("grafted-extras", GOOD)
    monkeypatch.setenv(DISABLE_VARIABLE, blocked)
    manager = PluginManager()
    assert "installed_one" not in manager.schedules()
    assert_builtins_survive(manager)


def test_disabling_one_side_settles_a_clash(
    installer: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    installer.install("grafted-extras", GOOD.replace("installed_one", "lp_ft"))
    with pytest.raises(PluginError, match=r"\(grafted-extras 1\.5\)"):
        PluginManager().get("schedule", "lp_ft")
    monkeypatch.setenv(DISABLE_VARIABLE, "grafted-extras")
    assert PluginManager().get("schedule", "lp_ft").generate.__module__ == "visiongraft.schedules"


@given(st.lists(st.text("abc", min_size=1, max_size=2), max_size=8))
def test_a_name_is_usable_exactly_if_one_plugin_gives_it(names: list[str]) -> None:
    manager = PluginManager(discover=False)
    for position, name in enumerate(names):
        item = type("Listener", (), {"name": name})
        manager.register(plugin_with("register_listeners", [item]), f"p{position}")
    assert set(manager.listeners()) == {n for n in names if names.count(n) == 1}
    clashing = {record.name for record in manager.records if record.problems}
    assert clashing == {f"p{i}" for i, n in enumerate(names) if names.count(n) > 1}
