"""What a plugin changes for everybody on import is undone and reported."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest
import torch

from visiongraft.hookspecs import hookimpl
from visiongraft.registry import settings
from visiongraft.registry.manager import PluginManager
from visiongraft.registry.settings import PROCESS, SETTINGS, kept_settings

CHANGES: dict[str, Callable[[], Any]] = {
    "torch's default dtype": lambda: torch.set_default_dtype(torch.float64),
    "torch's default device": lambda: torch.set_default_device("meta"),
    "torch's gradient mode": lambda: torch.set_grad_enabled(False),
    "torch's float32 matmul precision": lambda: torch.set_float32_matmul_precision("medium"),
    "torch's deterministic mode": lambda: torch.use_deterministic_algorithms(True),
    "torch.backends.cudnn.enabled": lambda: setattr(torch.backends.cudnn, "enabled", False),
    "torch.backends.cudnn.benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "torch.backends.cudnn.deterministic": lambda: setattr(
        torch.backends.cudnn, "deterministic", True
    ),
    "numpy's handling of floating-point errors": lambda: np.seterr(all="raise"),
    "PIL.ImageFile.LOAD_TRUNCATED_IMAGES": lambda: setattr(
        PIL.ImageFile, "LOAD_TRUNCATED_IMAGES", True
    ),
    "PIL.Image.MAX_IMAGE_PIXELS": lambda: setattr(PIL.Image, "MAX_IMAGE_PIXELS", None),
    "the level up to which logging is disabled": lambda: logging.disable(logging.CRITICAL),
    "sys.stdout": lambda: setattr(sys, "stdout", None),
    "sys.stderr": lambda: setattr(sys, "stderr", None),
    "the working directory": lambda: os.chdir("/"),
    "the recursion limit": lambda: sys.setrecursionlimit(sys.getrecursionlimit() - 1),
}


def present() -> list[Any]:
    return [settings._value(setting, None) for setting in (*SETTINGS, *PROCESS)]


def test_every_setting_is_tried_here() -> None:
    assert set(CHANGES) == {setting.name for setting in (*SETTINGS, *PROCESS)}


def test_the_defaults_are_those_of_the_libraries() -> None:
    assert present()[: len(SETTINGS)] == [setting.default for setting in SETTINGS]


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_setting_is_undone_and_reported(name: str) -> None:
    before, changes = present(), list[str]()
    with kept_settings(changes):
        CHANGES[name]()
    assert present() == before
    (change,) = changes
    assert change.startswith(f"changed {name} from ")


def test_a_setting_is_undone_after_an_error_too() -> None:
    changes: list[str] = []
    with pytest.raises(KeyError), kept_settings(changes):
        torch.set_default_dtype(torch.float64)
        raise KeyError
    assert torch.get_default_dtype() is torch.float32
    assert len(changes) == 1


def test_what_the_user_has_set_stays() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with kept_settings(changes := []):
            torch.set_default_dtype(torch.float16)
        assert torch.get_default_dtype() is torch.float64
        assert changes == ["changed torch's default dtype from torch.float64 to torch.float16"]
        with kept_settings(changes := []):
            pass
        assert changes == []
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_library_that_the_block_imports_starts_with_its_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = SimpleNamespace(fast=True)
    fast = settings._attribute("a_library", "fast", default=False)
    monkeypatch.setattr(settings, "SETTINGS", (fast,))
    with kept_settings(changes := []):
        monkeypatch.setitem(settings.sys.modules, "a_library", library)
    assert (library.fast, changes) == (False, ["changed a_library.fast from False to True"])


# ---- plugins ----

SOURCE = """
import torch
from visiongraft import hookimpl

torch.set_default_dtype(torch.float64)

@hookimpl
def register_schedules():
    torch.set_grad_enabled(False)
    return []
"""


def test_a_plugin_file_is_named_and_its_changes_are_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "careless_dtype.py").write_text(SOURCE)
    record = PluginManager(discover=False).register_file(tmp_path / "careless_dtype.py")
    assert torch.get_default_dtype() is torch.float32
    assert torch.is_grad_enabled()
    assert len(record.problems) == 2
    line = "changed torch's default dtype from torch.float32 to torch.float64 for everybody; this was undone"
    assert line in record.problems
    assert f"plugin careless_dtype {line}" in caplog.messages


def test_a_plugin_that_changes_nothing_has_no_problem() -> None:
    class Plugin:
        @hookimpl
        def register_schedules(self) -> list[Any]:
            return []

    assert PluginManager(discover=False).register(Plugin(), "mine").changes == []
