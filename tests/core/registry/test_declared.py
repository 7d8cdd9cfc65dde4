"""Names that no plugin declares are refused before plugins are imported, and no others are."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from visiongraft.errors import OptionError, PluginError
from visiongraft.registry import declared, manager
from visiongraft.registry.declared import refuse_undeclared, refuse_undeclared_settings
from visiongraft.registry.manager import DISABLE_VARIABLE, PluginManager, plugins, using

Names = list[str]


def distribution_with(*names: str) -> SimpleNamespace:
    points = [SimpleNamespace(name=name) for name in names]
    return SimpleNamespace(
        entry_points=SimpleNamespace(select=lambda group: points if group == declared.NAMES else [])
    )


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """The distributions with plugins, which a test may add to."""
    monkeypatch.delenv(DISABLE_VARIABLE, raising=False)
    monkeypatch.setattr(manager, "_installed", lru_cache(PluginManager))  # not called yet
    names = ("task.boxes", "schedule.lp_ft", "loss.l2_sp", "backbone.timm", "exporter.onnx")
    distributions = [distribution_with(*names)]
    monkeypatch.setattr(declared, "distributions", lambda: distributions)
    return distributions


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "boxs"}, "no task 'boxs'; did you mean 'boxes'?"),
        ({"schedule": "lpft(epochs=2)"}, "no schedule 'lpft'; did you mean 'lp_ft'?"),
        ({"transfer_loss": "x"}, "no loss 'x'; available: l2_sp"),
        ({"transfer_loss": ["l2_sp", "x(a=1)"]}, "no loss 'x'; available: l2_sp"),
        ({"backbone": "tim/r50"}, "no backbone 'tim/r50'; did you mean 'timm/r50'?"),
    ],
)
def test_an_undeclared_name_is_refused(
    found: list[SimpleNamespace], settings: dict[str, str], message: str
) -> None:
    with pytest.raises(PluginError) as caught:
        refuse_undeclared_settings(settings)
    assert str(caught.value) == message
    with pytest.raises(PluginError, match="no exporter 'onx'; did you mean 'onnx'"):
        refuse_undeclared("exporter", "onx")


def test_declared_names_and_those_that_only_plugins_know_pass(
    found: list[SimpleNamespace], tmp_path: Path
) -> None:
    found.append(distribution_with("task.faces", "schedule.slow.start"))
    for settings in (
        {"task": "boxes", "schedule": "lp_ft(epochs=1)", "backbone": "timm/anything"},
        {"task": "faces", "schedule": "slow.start", "backbone": "resnet50"},
        {"task": object(), "schedule": "other:lp_ft", "backbone": "other:timm/resnet50"},
        {"backbone": str(tmp_path), "transfer_loss": None},
    ):
        refuse_undeclared_settings(settings)


def test_nothing_is_refused_beside_plugins_that_declare_no_names(
    found: list[SimpleNamespace],
) -> None:
    found.append(distribution_with())
    refuse_undeclared("task", "boxs")


def test_nothing_is_refused_where_the_user_chose_plugins(
    found: list[SimpleNamespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    with using(PluginManager(discover=False)):
        refuse_undeclared("task", "boxs")
    monkeypatch.setenv(DISABLE_VARIABLE, "onnx")
    refuse_undeclared("task", "boxs")


@pytest.mark.parametrize(
    ("setting", "kind"),
    [("schedule", "schedule"), ("transfer_loss", "transfer loss"), ("adapters", "adapter")],
)
def test_options_that_cannot_be_read_are_refused_too(
    found: list[SimpleNamespace], setting: str, kind: str
) -> None:
    with pytest.raises(OptionError, match=f"^{kind} 'some\\(' is neither"):
        refuse_undeclared_settings({setting: "some("})


def test_nothing_is_refused_once_plugins_are_imported(found: list[SimpleNamespace]) -> None:
    plugins()
    refuse_undeclared("task", "boxs")
