from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.errors import PluginError
from visiongraft.exporter import Exporter
from visiongraft.hookspecs import API_VERSION, hookimpl
from visiongraft.lookup.methods import find_schedule
from visiongraft.registry.manager import (
    DISABLE_VARIABLE,
    KINDS,
    PluginManager,
    PluginRecord,
    plugins,
    using,
)
from visiongraft.schedules import Phase, schedule
from visiongraft.task import Task


@schedule
def slow_start(stages: tuple[str, ...], epochs: int):  # type: ignore[no-untyped-def]
    yield Phase(epochs)


@schedule
def fast_end(stages: tuple[str, ...], epochs: int):  # type: ignore[no-untyped-def]
    yield Phase(epochs)


def plugin_with(hook: str = "register_schedules", items: object = (slow_start,)) -> object:
    """Make a plugin object with one hook that returns these items."""
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


def test_callbacks_may_be_any_named_class() -> None:
    class Bell:
        name = "bell"

    manager = PluginManager(discover=False)
    manager.register(plugin_with("register_callbacks", [Bell]), "mine")
    assert manager.callbacks() == {"bell": Bell}


def test_optional_and_variable_arguments_of_a_hook_are_allowed() -> None:
    class Plugin:
        @hookimpl
        def register_schedules(self, extra: int = 1, *more: int, **rest: int) -> list[object]:
            return [slow_start]

    manager = PluginManager(discover=False)
    assert manager.register(Plugin(), "mine").problems == []


# ---- broken plugins, each reported with name, distribution and cause ----


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
        (GOOD.replace("[installed_one]", "['x']"), "returned 'x', which has no name"),
        (GOOD.replace("register_schedules", "register_tasks"), "which is not a subclass of Task"),
        (
            GOOD.replace("[installed_one]", "[type('X', (), {'name': 'x'})]"),
            "not an instance of Sch",
        ),
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


def test_a_misspelled_hook_is_refused_with_the_right_name() -> None:
    manager = PluginManager(discover=False)
    record = manager.register(plugin_with("register_task"), "mine")
    assert record.problems == ["unknown hook 'register_task'; did you mean 'register_tasks'?"]


def test_one_failing_hook_leaves_the_plugins_other_hooks() -> None:
    class Plugin:
        @hookimpl
        def register_callbacks(self) -> list[object]:
            raise KeyError("missing")

        @hookimpl
        def register_schedules(self) -> list[object]:
            return [slow_start]

    manager = PluginManager(discover=False)
    record = manager.register(Plugin(), "mine")
    assert record.problems == ["register_callbacks() raised KeyError: 'missing'"]
    assert manager.schedules() == {"slow_start": slow_start}


def test_the_same_object_twice_is_refused() -> None:
    manager = PluginManager(discover=False)
    plugin = plugin_with()
    manager.register(plugin, "first")
    record = manager.register(plugin, "second")
    assert "already registered" in record.problems[0]
    assert manager.get("schedule", "slow_start") is slow_start


# ---- clashes ----


def test_a_name_clash_is_recorded_on_both_sides_and_raised_only_on_lookup() -> None:
    manager = PluginManager(discover=False)
    first = manager.register(plugin_with(items=[slow_start, fast_end]), "first")
    second = manager.register(plugin_with(items=[slow_start]), "second")
    assert first.problems == ["schedule 'slow_start' is also provided by plugin second"]
    assert second.problems == ["schedule 'slow_start' is also provided by plugin first"]
    assert manager.schedules() == {"fast_end": fast_end}
    with pytest.raises(PluginError, match="first and plugin second; use 'first:slow_start' or"):
        manager.get("schedule", "slow_start")


def test_a_clash_is_not_blamed_for_an_unrelated_missing_name() -> None:
    manager = PluginManager(discover=False)
    manager.register(plugin_with(), "first")
    manager.register(plugin_with(), "second")
    assert "failed" not in manager.missing("task", "pose", [])


def test_a_plugin_that_provides_one_name_twice_clashes_with_itself() -> None:
    manager = PluginManager(discover=False)
    record = manager.register(plugin_with(items=[slow_start, slow_start]), "mine")
    assert record.problems == ["schedule 'slow_start' is also provided by plugin mine"]


def test_a_clash_of_prefixes_is_reported_when_a_full_backbone_name_is_used() -> None:
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
    assert message.startswith("backbone 'mine' is provided by plugin a and plugin b; use 'a:mine'")


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
def test_a_name_is_usable_exactly_if_one_plugin_provides_it(names: list[str]) -> None:
    manager = PluginManager(discover=False)
    for position, name in enumerate(names):
        item = type("Callback", (), {"name": name})
        manager.register(plugin_with("register_callbacks", [item]), f"p{position}")
    assert set(manager.callbacks()) == {n for n in names if names.count(n) == 1}
    clashing = {record.name for record in manager.records if record.problems}
    assert clashing == {f"p{i}" for i, n in enumerate(names) if names.count(n) > 1}


# ---- the version of the interface ----


@pytest.mark.parametrize("declared", ["2.0", f"{API_VERSION[0]}.{API_VERSION[1]}"])
def test_a_plugin_for_this_api_version_is_used_and_shown_with_it(declared: str) -> None:
    plugin = plugin_with()
    plugin.visiongraft_api = declared  # type: ignore[attr-defined]
    record = PluginManager(discover=False).register(plugin, "mine")
    assert (record.problems, record.api) == ([], declared)


def test_a_plugin_that_names_no_version_is_taken_to_fit() -> None:
    record = PluginManager(discover=False).register(plugin_with(), "mine")
    assert (record.problems, record.api) == ([], "-")


@pytest.mark.parametrize(
    ("declared", "remedy"),
    [
        ("3.0", "install a newer visiongraft or an older version of the plugin"),
        (f"{API_VERSION[0]}.{API_VERSION[1] + 1}", "install a newer visiongraft"),
        ("1.0", "install a newer version of the plugin or an older visiongraft"),
    ],
)
def test_a_plugin_for_another_api_version_is_refused_with_a_remedy(
    installer: Installer, declared: str, remedy: str
) -> None:
    # Its hooks are of that other version too: the error must name the version.
    code = f'visiongraft_api = "{declared}"\n' + GOOD.replace("register_sch", "register_new_sch")
    installer.install("other-extras", code)
    manager = PluginManager()
    record = record_of(manager, "other_extras")
    host = ".".join(map(str, API_VERSION))
    (problem,) = record.problems
    assert problem.startswith(
        f"written for plugin API {declared}; this visiongraft has {host}; {remedy}"
    )
    assert_builtins_survive(manager)
    with pytest.raises(PluginError, match=f"written for plugin API {declared}"):
        manager.get("schedule", "installed_one")


def test_the_old_hook_for_callbacks_is_refused_with_its_new_name(installer: Installer) -> None:
    installer.install("other-extras", GOOD.replace("register_schedules", "register_listeners"))
    (problem,) = record_of(PluginManager(), "other_extras").problems
    assert problem == "unknown hook 'register_listeners'; it is now register_callbacks"


@pytest.mark.parametrize("declared", ["1", 1.0, "one", "1.0.0", ""])
def test_what_is_not_a_version_is_refused(declared: object) -> None:
    plugin = plugin_with()
    plugin.visiongraft_api = declared  # type: ignore[attr-defined]
    (problem,) = PluginManager(discover=False).register(plugin, "mine").problems
    assert problem == f"visiongraft_api = {declared!r} is not a version such as '2.0'"


# ---- choosing, blocking, single files ----


def test_a_distribution_in_front_of_the_name_selects_one_of_two(installer: Installer) -> None:
    installer.install("grafted-extras", GOOD.replace("installed_one", "lp_ft"))
    manager = PluginManager()
    own = manager.get("schedule", "visiongraft:lp_ft")
    other = manager.get("schedule", "Grafted_Extras:lp_ft")
    assert own.generate.__module__ == "visiongraft.schedules"
    assert other.generate.__module__ == "grafted_extras"
    assert [manager.name_of("schedule", item) for item in (own, other)] == [
        "visiongraft:lp_ft",
        "grafted-extras:lp_ft",
    ]
    assert manager.name_of("schedule", manager.get("schedule", "full")) == "full"
    with pytest.raises(PluginError, match="use 'grafted-extras:lp_ft' or 'visiongraft:lp_ft', or"):
        manager.get("schedule", "lp_ft")
    with pytest.raises(PluginError, match="no schedule 'nobody:lp_ft'"):
        manager.get("schedule", "nobody:lp_ft")


def test_a_plugins_own_name_selects_within_one_distribution() -> None:
    manager = PluginManager(discover=False)
    manager.register(plugin_with(), "first")
    manager.register(plugin_with(items=[fast_end]), "second")
    manager.register(plugin_with(items=[slow_start]), "third")
    assert manager.get("schedule", "third:slow_start") is slow_start
    assert manager.provides("schedule", "third:slow_start")
    assert not manager.provides("schedule", "second:slow_start")


def test_a_chosen_schedule_is_found_again_by_what_a_run_stores(installer: Installer) -> None:
    installer.install("grafted-extras", GOOD.replace("installed_one", "lp_ft"))
    with using(PluginManager()):
        found = find_schedule("grafted-extras:lp_ft")
        assert found.generate.__module__ == "grafted_extras"
        assert find_schedule(found.to_json()) == found


def test_a_blocked_plugin_is_not_imported_but_listed(installer: Installer) -> None:
    installer.install("grafted-extras", "raise RuntimeError('imported')")
    manager = PluginManager(blocked=["grafted-extras"])
    record = record_of(manager, "grafted_extras")
    assert (record.blocked, record.problems) == (True, [])
    with pytest.raises(PluginError, match=r"plugin grafted_extras \(grafted-extras 1.5\) is disab"):
        manager.get("schedule", "installed_one")


def test_blocking_an_unknown_plugin_is_refused_with_similar_names() -> None:
    with pytest.raises(PluginError, match="no plugin 'schedule' to disable; did you mean 'sched"):
        PluginManager(blocked=["schedule"])


def test_another_manager_is_used_for_the_length_of_a_block() -> None:
    manager = PluginManager(discover=False)
    manager.register(plugin_with(), "mine")
    with using(manager):
        assert find_schedule("slow_start").generate is slow_start.generate
        with pytest.raises(PluginError, match="no schedule 'lp_ft'"):
            find_schedule("lp_ft")
    assert find_schedule("lp_ft").name == "lp_ft"


@pytest.fixture
def write_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Write a plugin file; what importing it leaves behind is removed."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)

    def write(code: str, name: str = "my_plugin_file.py") -> Path:
        (tmp_path / name).write_text(code)
        return tmp_path / name

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_one_file_is_a_plugin(write_plugin: Callable[..., Path]) -> None:
    manager = PluginManager(discover=False)
    record = manager.register_file(write_plugin(GOOD))
    assert (record.name, record.distribution) == ("my_plugin_file", "-")
    assert manager.get("schedule", "installed_one").name == "installed_one"
    # Worker processes that start anew import it by its name.
    assert importlib.import_module("my_plugin_file").installed_one


@pytest.mark.parametrize(
    ("name", "code", "cause"),
    [
        ("my_plugin_file.py", "import a_library_nobody_has", "No module named"),
        ("my_plugin_file.py", "raise SystemExit(3)", "SystemExit: 3"),
        ("my_plugin_file.py", "x = 1", "it has no hook"),
        ("my_plugin_file.py", "visiongraft_api = '9.0'", "written for plugin API 9.0"),
        ("my-plugin-file.py", GOOD, "rename it, such as my_task.py"),
        ("my_plugin_file.txt", GOOD, "rename it, such as my_task.py"),
        ("json.py", GOOD, "has the name of another module"),
        ("colorsys.py", GOOD, "has the name of another module"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_in_one_line(
    write_plugin: Callable[..., Path], name: str, code: str, cause: str
) -> None:
    with pytest.raises(PluginError, match=cause) as caught:
        PluginManager(discover=False).register_file(write_plugin(code, name))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"my_task\.py does not exist"):
        PluginManager(discover=False).register_file(tmp_path / "my_task.py")


# ---- items that would break lookups of others ----


@pytest.mark.parametrize(
    ("hook", "item", "cause"),
    [
        ("register_callbacks", SimpleNamespace(name="a:b"), "a colon in a name"),
        ("register_exporters", type("X", (Exporter,), {"name": "x"}), "which has no suffix"),
        (
            "register_tasks",
            type("X", (Task,), {"name": "x"}),
            "has no headline, the name of the metric",
        ),
    ],
)
def test_an_item_that_would_break_lookups_is_refused(hook: str, item: object, cause: str) -> None:
    record = PluginManager(discover=False).register(plugin_with(hook, [item]), "mine")
    assert cause in record.problems[0]


def test_a_run_hook_outside_a_callback_is_refused_with_where_it_belongs() -> None:
    record = PluginManager(discover=False).register(plugin_with("epoch_ended"), "mine")
    assert "hook 'epoch_ended' is for callbacks" in record.problems[0]
