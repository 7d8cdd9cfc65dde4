"""Plugins as third parties write them, in one file with public names only, pass the conformance kit."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from visiongraft.registry.manager import PluginManager, using
from visiongraft.testing import TASK_CHECKS, TaskTrial

HERE = Path(__file__).parent
PLUGINS = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("test_"))
EACH_RUN = {"loss_parts_are_means", "learned_tensors_are_registered"}


@pytest.fixture(scope="module", params=PLUGINS)
def trial(request: pytest.FixtureRequest) -> Iterator[TaskTrial]:
    manager = PluginManager()
    manager.register_file(HERE / f"{request.param}.py")
    with using(manager):
        (task,) = (
            kind for kind in manager.tasks().values() if kind.__module__.endswith(request.param)
        )
        yield TaskTrial(task)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_uses_public_names_only(plugin: str) -> None:
    tree = ast.parse((HERE / f"{plugin}.py").read_text(encoding="utf-8"))
    names = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names += [*str(node.module).split("."), *(alias.name for alias in node.names)]
    private = [n for n in names if n.startswith("_") and n not in ("__future__", "__init__")]
    assert private == []


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, marks=[] if check.name in EACH_RUN else pytest.mark.slow)
        for check in TASK_CHECKS
    ],
    ids=lambda check: check.name,
)
def test_a_plugin_passes_each_check(trial: TaskTrial, check: Any) -> None:
    check(trial)
