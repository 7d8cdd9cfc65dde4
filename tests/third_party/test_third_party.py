"""Plugins as third parties write them, in one file each: they need public names only, and pass the kit."""

from __future__ import annotations

import ast
import json
import sys
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

import visiongraft
from visiongraft.registry.manager import PluginManager, using
from visiongraft.testing import TASK_CHECKS, Check, TaskTrial, check_adapter, check_schedule

HERE = Path(__file__).parent
FILES = sorted(path for path in HERE.glob("*.py") if not path.stem.startswith("test_"))
# Modules that the pages for plugin authors import from.
PUBLIC = {
    "visiongraft",
    "visiongraft.data.images",
    "visiongraft.data.samples",
    "visiongraft.data.splits",
    "visiongraft.errors",
    "visiongraft.inputs",
    "visiongraft.plugins.classification.task",
    "visiongraft.schedules",
    "visiongraft.task",
}
# What these plugins are about; the other checks are about what other tasks do alike.
ORDINARY = {
    "loss_parts_are_means",
    "every_single_image_has_a_loss",
    "learned_tensors_are_registered",
    "a_killed_run_resumes_exactly",
    "replay_changes_nothing",
}


def is_ordinary(plugin: str, check: Check[Any]) -> bool:
    """Resume and replay one of them in every run: the engine's part is the same for all."""
    alone = {
        "a_killed_run_resumes_exactly": "adversarial",  # several optimizers, and a state of its own
        "replay_changes_nothing": "pseudo_labels",
    }
    return check.name in ORDINARY and alone.get(check.name, plugin) == plugin


@pytest.fixture(scope="module")
def trials() -> dict[str, TaskTrial]:
    found = {}
    for path in FILES:
        for kind in getattr(module_of(path), "register_tasks", list)():
            found[path.stem] = TaskTrial(kind())
    return found


@cache
def module_of(path: Path) -> Any:
    spec = spec_from_file_location(f"third_party_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_plugin_uses_public_names_only(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):  # dunders such as `super().__init__` belong to Python
            assert not node.attr.startswith("_") or node.attr.endswith("__")
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("visiongraft.") for alias in node.names)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("visiongraft"):
            assert node.module in PUBLIC
            names = {alias.name for alias in node.names}
            assert not any(name.startswith("_") for name in names)
            if node.module == "visiongraft":
                assert names <= set(visiongraft.__all__)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "check"),
    [
        pytest.param(
            name,
            check,
            id=f"{name}-{check.name}",
            marks=[] if is_ordinary(name, check) else pytest.mark.exhaustive,
        )
        for name in (path.stem for path in FILES)
        for check in TASK_CHECKS
    ],
)
def test_it_passes_the_kit(trials: dict[str, TaskTrial], name: str, check: Check[Any]) -> None:
    if name not in trials:
        pytest.skip("no task")
    manager = PluginManager()
    manager.register(module_of(HERE / f"{name}.py"), name)
    with using(manager):
        check.run(trials[name])


@pytest.mark.exhaustive
def test_the_adapter_and_its_schedule_pass_the_kit() -> None:
    manager = PluginManager()
    manager.register(module_of(HERE / "adapter_stages.py"), "stages")
    with using(manager):
        check_adapter("update")
        check_schedule("adapters_by_stages", adapters=["update"])


def test_adapters_train_in_stages_and_are_merged(tmp_path: Path) -> None:
    plugin, task = module_of(HERE / "adapter_stages.py"), module_of(HERE / "missing_targets.py")
    manager = PluginManager()
    manager.register(plugin, "stages")
    with using(manager):
        model = visiongraft.fit(
            task.make_dataset(tmp_path, 24, 0),
            task=task.Marks(),
            backbone="simple_cnn",
            weights=None,
            size=32,
            adapters=["update(rank=1)"],
            schedule="adapters_by_stages",
            epochs=3,
            out=tmp_path / "run",
            device="cpu",
            callbacks=(),
        )
    receipts = json.loads((tmp_path / "run" / "receipts.json").read_text())
    frozen = [set(each["frozen"]) for each in receipts]
    updates = {n for n, _ in model.network.named_parameters() if ".update." in n}
    deeper = {name for name in updates if "stem" not in name}
    assert updates
    assert updates <= frozen[0]
    assert updates & frozen[1] == updates - deeper
    assert not updates & frozen[2]
    base = {n for n, _ in model.network.named_parameters() if n.startswith("backbone.")} - updates
    thawed = base - frozen[2]
    assert thawed  # the last stage
    assert thawed < base
    assert base <= frozen[0] & frozen[1]
    saved = visiongraft.load(tmp_path / "run", task=task.Marks)
    assert not any("update" in name for name in saved.network.state_dict())
