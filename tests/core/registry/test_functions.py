"""Functions in entry-point groups of their own are held to the rules of plugins."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from visiongraft.errors import PluginError
from visiongraft.registry import isolation
from visiongraft.registry.disabled import DISABLE_VARIABLE, disabling
from visiongraft.registry.functions import functions
from visiongraft.registry.manager import PluginManager, PluginRecord, using

GROUP = "visiongraft.drawings"
POINTS = f"[{GROUP}]\nlines = line_drawing:draw\n"
DRAW = "def draw(image, prediction):\n    return image\n"
ROOT = Path(__file__).parents[3]

Install = Callable[..., Path]


def record_of(name: str, distribution: str = "liner") -> PluginRecord:
    records = PluginManager().records
    return next(r for r in records if (r.name, r.distribution) == (name, distribution))


def test_a_function_is_imported_when_it_is_loaded(install: Install) -> None:
    install("liner", POINTS, line_drawing=DRAW)
    found = functions(GROUP)["lines"]
    assert "line_drawing" not in sys.modules
    assert found.load()("image", None) == "image"
    assert "lines" not in functions("visiongraft.predictions")


def test_all_entry_points_are_found_by_the_registry() -> None:
    """So that no group is left out of its rules."""
    reading = {
        path.relative_to(ROOT).parent.as_posix()
        for folder in ("core", "plugins", "exporters")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"import.*\bentry_points\b|(?<!cli)\.entry_points\b", path.read_text("utf-8"))
    }
    assert reading == {"core/registry"}


# ---- what is wrong with them ----


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("raise GeneratorExit", "GeneratorExit"),
        ("import os\nos._exit(3)", r"ProcessEnd: os\._exit\(\) was called"),
        ("x = 1", "AttributeError: module 'line_drawing' has no attribute 'draw'"),
        (f"visiongraft_api = '9.0'\n{DRAW}", r"written for plugin API 9\.0"),
    ],
)
def test_one_that_cannot_be_imported_is_named(install: Install, code: str, cause: str) -> None:
    install("liner", POINTS, line_drawing=code)
    words = r"^drawing 'lines' \(line_drawing:draw\) cannot be loaded: "
    with pytest.raises(PluginError, match=words + cause) as caught:
        functions(GROUP)["lines"].load()
    assert "\n" not in str(caught.value)


def test_one_whose_import_ends_the_process_is_refused(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = list[str]()

    def ends(modules: list[str]) -> dict[str, str]:
        tried.extend(modules)
        return dict.fromkeys(modules, "signal SIGSEGV")

    monkeypatch.setattr(isolation, "_import_in_child", ends)
    install("liner", POINTS, line_drawing=DRAW)
    with pytest.raises(
        PluginError, match=r"it ends the process when it is imported \(signal SIGSE"
    ):
        functions(GROUP)["lines"].load()
    assert (tried, "line_drawing" in sys.modules) == (["line_drawing"], False)


def test_settings_that_its_import_changes_are_restored_and_named(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    code = f"import torch\ntorch.set_default_dtype(torch.float64)\n{DRAW}"
    install("liner", POINTS, line_drawing=code)
    with caplog.at_level(logging.WARNING, "visiongraft"):
        functions(GROUP)["lines"].load()
    assert torch.get_default_dtype() is torch.float32
    assert "drawing 'lines' of liner changed torch's default dtype" in caplog.text


def test_damaged_entry_points_harm_no_other(install: Install) -> None:
    install("damaged", f"[{GROUP}]\nno equals sign\n")
    install("liner", POINTS, line_drawing=DRAW)
    assert {"lines", "classification"} <= functions(GROUP).keys()
    assert record_of("damaged", "damaged").failures[0].startswith("its entry points cannot be read")


# ---- clashes, disabling, listing ----


def test_a_name_of_two_distributions_belongs_to_neither(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("liner", POINTS, line_drawing=DRAW)
    install("other", POINTS)
    with pytest.raises(
        PluginError, match=r"drawing 'lines' is provided by liner 1\.5 and other 1\."
    ):
        functions(GROUP)["lines"].load()
    line = "drawing 'lines' is also provided by plugin lines"
    assert record_of("lines").problems == [f"{line} (other 1.5)"]
    assert record_of("lines", "other").problems == [f"{line} (liner 1.5)"]
    monkeypatch.setenv(DISABLE_VARIABLE, "other")
    assert functions(GROUP)["lines"].load().__module__ == "line_drawing"
    assert record_of("lines").problems == []


@pytest.mark.parametrize("name", ["liner", "lines", "Liner"])
def test_they_are_disabled_by_name_or_distribution(
    install: Install, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    install("liner", POINTS, line_drawing=DRAW)
    with disabling([name]):
        assert "lines" not in functions(GROUP)
        assert record_of("lines").blocked
    with using(PluginManager(blocked=[name])):
        assert "lines" not in functions(GROUP)
    assert "lines" in functions(GROUP)
    monkeypatch.setenv(DISABLE_VARIABLE, name)
    assert functions(GROUP).keys() >= {"classification"}
    assert "lines" not in functions(GROUP)


def test_they_are_listed_with_the_plugin_of_their_name(install: Install) -> None:
    plugin = "[visiongraft]\nlines = line_plugin\n"
    install("liner", f"{POINTS}dots = line_drawing:draw\n{plugin}", line_plugin="x = 1")
    records = [r for r in PluginManager().records if r.distribution == "liner"]
    assert {r.name: r.functions for r in records} == {"lines": ["drawing"], "dots": ["drawing"]}
    own = {r.name: r.functions for r in PluginManager().records if r.distribution == "visiongraft"}
    assert own["verify"] == ["command"]
    assert own["onnx"] == ["predictor"]
    assert own["classification"] == ["demo", "drawing", "prediction"]
