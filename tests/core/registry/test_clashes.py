"""Of two plugins that provide the same name, the chosen one is found again from disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from visiongraft import fit, load
from visiongraft.backbone import BackboneSource, backbone_names
from visiongraft.errors import PluginError, VisiongraftError
from visiongraft.hookspecs import hookimpl
from visiongraft.lookup.backbones import find_source, load_backbone
from visiongraft.registry.manager import PluginManager, plugins, using


@pytest.fixture
def clashing(Toy: Any) -> Iterator[tuple[Any, Any]]:
    """Let two plugins provide task ``toy``, backbones ``toys`` and a schedule of one name."""
    source = plugins().get("backbone", "toys")
    tasks = [Toy, type("OtherToy", (Toy,), {})]
    manager = PluginManager()
    for name, task in zip(("first", "second"), tasks, strict=True):
        plugin = SimpleNamespace(
            register_tasks=hookimpl(lambda task=task: [task], specname="register_tasks"),
            register_backbones=hookimpl(lambda: [source], specname="register_backbones"),
            register_schedules=hookimpl(
                lambda: [manager.get("schedule", "visiongraft:full")], specname="register_schedules"
            ),
        )
        assert manager.register(plugin, name).failures == []
    with using(manager):
        yield tasks[0], tasks[1]


CHOSEN = {
    "task": "second:toy",
    "backbone": "first:toys/toy",
    "schedule": "second:full(learning_rate=0.01)",
    "transfer_loss": "visiongraft:l2_sp(alpha=0.01)",
}


def test_what_was_chosen_trains_resumes_and_loads(
    clashing: tuple[Any, Any], toy_data: Any, tmp_path: Path
) -> None:
    settings = {**CHOSEN, "weights": None, "epochs": 1, "device": "cpu", "callbacks": ()}
    model = fit(toy_data(30), out=tmp_path, **settings)
    assert type(model.task) is clashing[1]
    assert type(load(tmp_path).task) is clashing[1]
    assert load(tmp_path).backbone_info.name == "first:toys/toy"
    again = fit(toy_data(30), out=tmp_path, resume=True, **settings)
    assert type(again.task) is clashing[1]
    load(tmp_path).save(tmp_path / "saved")
    assert type(load(tmp_path / "saved").task) is clashing[1]
    assert load_backbone(tmp_path / "saved").info.name == "first:toys/toy"


def test_a_task_passed_as_an_object_is_distinguished_from_its_namesake(
    clashing: tuple[Any, Any], toy_data: Any, tmp_path: Path, fit_toy: Any
) -> None:
    words = {"backbone": "second:toys/toy", "schedule": "visiongraft:full"}
    fit_toy(toy_data(30), task=clashing[0](), out=tmp_path, epochs=1, **words)
    assert type(load(tmp_path).task) is clashing[0]


@pytest.mark.usefixtures("clashing")
@pytest.mark.parametrize("setting", ["task", "backbone", "schedule"])
def test_the_name_alone_is_refused_with_both_choices(
    toy_data: Any, setting: str, tmp_path: Path
) -> None:
    plain = {"task": "toy", "backbone": "toys/toy", "schedule": "full"}[setting]
    settings = {**CHOSEN, setting: plain, "weights": None, "device": "cpu", "callbacks": ()}
    with pytest.raises(VisiongraftError, match=r"use '\w+:\w+' or '\w+:") as caught:
        fit(toy_data(30), out=tmp_path / "run", **settings)
    assert "\n" not in str(caught.value)


def test_a_saved_model_whose_task_has_become_ambiguous_is_refused(
    fit_toy: Any, toy_data: Any, tmp_path: Path, request: pytest.FixtureRequest, Toy: Any
) -> None:
    fit_toy(toy_data(30), out=tmp_path, epochs=1)
    request.getfixturevalue("clashing")
    with pytest.raises(PluginError, match="use 'first:toy' or 'second:toy', or disable one"):
        load(tmp_path)


def test_a_source_that_cannot_list_its_names_hides_no_other() -> None:
    class Broken(BackboneSource):
        prefix = "broken"

        def names(self) -> list[str]:
            raise OSError("no index")

        def build(self, name: str, **_: Any) -> Any:
            raise NotImplementedError

    manager = PluginManager()
    plugin = SimpleNamespace(
        register_backbones=hookimpl(lambda: [Broken()], specname="register_backbones")
    )
    manager.register(plugin, "broken")
    with using(manager):
        assert find_source("simple_cnn")[1] == "simple_cnn"
        assert "simple_cnn" in backbone_names(manager.backbone_sources().values())
