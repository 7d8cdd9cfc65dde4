"""Continuing with a model: its task, backbone, head and preprocessing, and data of its classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import visiongraft
from visiongraft.config import FitConfig
from visiongraft.data.images import DatasetSamples
from visiongraft.errors import (
    ArtifactError,
    CheckpointError,
    DataError,
    OptionError,
    VisiongraftError,
)
from visiongraft.hookspecs import hookimpl

FULL: dict[str, Any] = {"schedule": "full(learning_rate=0.02)", "epochs": 1, "device": "cpu"}


def go_on(data: Any, **settings: Any) -> Any:
    """Fit with these settings only; ``fit_toy`` names a task and a backbone."""
    return visiongraft.fit(data, **{**FULL, "callbacks": (), **settings})


class AtStart:
    """Keeps the weights that a run begins with."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    @hookimpl
    def run_started(self, run: Any) -> None:
        self.state = {n: t.clone() for n, t in run.network.state_dict().items()}


@pytest.fixture(scope="module")
def first(fit_toy: Any, toy_data: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on images that are stretched to another size than the backbone's own."""
    folder: Path = tmp_path_factory.mktemp("start") / "first"
    options = {"task": "toy", "task_options": {"augment": False, "maps": True}}
    fit_toy(toy_data(30), out=folder, size=24, resize="stretch", **{**FULL, **options})
    return folder


def test_rates_that_suit_new_heads_of_a_task_are_not_those_of_a_trained_one(
    fit_toy: Any, toy_data: Any, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suitable = {"learning_rate": 0.02, "probe_learning_rate": 0.02, "batch_norm": "train"}
    monkeypatch.setattr(type(visiongraft.load(first).task), "schedule_options", suitable)
    new, trained = tmp_path / "new", tmp_path / "trained"
    settings = {"schedule": "lp_ft", "epochs": 1}
    fit_toy(toy_data(20), task="toy", **{**FULL, **settings}, out=new)
    assert FitConfig.read(new).schedule["options"] == suitable
    for resume in (False, True):
        go_on(toy_data(20), start=first, **settings, out=trained, resume=resume)
        assert FitConfig.read(trained).schedule["options"] == {"batch_norm": "train"}


@pytest.mark.parametrize("form", ["run folder", "model folder", "model"])
def test_a_run_continues_with_everything_that_a_model_consists_of(
    toy_data: Any, first: Path, tmp_path: Path, form: str
) -> None:
    model = visiongraft.load(first)
    start = {"run folder": first, "model folder": str(first / "model"), "model": model}[form]
    watch = AtStart()
    again = go_on(toy_data(30), start=start, out=tmp_path / "run", callbacks=[watch])
    for name, tensor in model.network.inference_state().items():
        assert torch.equal(tensor, watch.state[name]), name
    assert again.task == model.task
    assert again.backbone_info.preprocess == model.backbone_info.preprocess
    config = FitConfig.read(tmp_path / "run")
    assert (config.task, config.backbone) == ("toy", "toys/toy")
    assert config.task_options == {"classes": 3, "augment": False, "maps": True}
    before = again.facts["evaluation"]["validation.share_right before training"]
    assert before == model.evaluate(splits(model, toy_data(30)))["share_right"]
    assert again.facts["training"]["start"] == config.start


def splits(model: Any, data: Any) -> Any:
    validation = model.task.read(data).validation
    return [(validation.load(i), validation.target(i)) for i in range(len(validation))]


def test_a_model_in_memory_is_not_changed_and_its_run_resumes_without_it(
    toy_data: Any, first: Path, tmp_path: Path
) -> None:
    model = visiongraft.load(first)
    before = {n: t.clone() for n, t in model.network.state_dict().items()}
    one = go_on(toy_data(30), start=model, out=tmp_path / "run", epochs=2)
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, before[name])
    (tmp_path / "run").rename(tmp_path / "moved")
    again = visiongraft.fit(toy_data(30), out=tmp_path / "moved", resume=True, callbacks=())
    for name, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name])


def test_options_that_do_not_change_the_head_can_be_changed(
    toy_data: Any, first: Path, Toy: Any
) -> None:
    by_name = go_on(toy_data(30), start=first, task="toy", task_options={"augment": True})
    by_object = go_on(toy_data(30), start=first, task=Toy(augment=True))
    assert by_name.task == Toy(augment=True, maps=True)
    assert by_object.task.maps  # that was not passed: it is at its default


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"start": "nowhere"}, "start=nowhere is not the folder of a saved model or of a run"),
        ({"start": 7}, "start=7 is neither a model, the folder of one nor a weights file"),
        (
            {"task": "classification"},
            r"is a model for task 'toy', not 'classification'; pass backb",
        ),
        ({"backbone": "simple_cnn"}, r"omit backbone='simple_cnn', or pass backbone=FOLDER"),
        ({"weights": None}, "omit weights=None"),
        ({"task_options": {"clases": 4}}, "no option 'clases'; did you mean 'classes'"),
    ],
)
def test_what_cannot_be_continued_is_refused_in_one_line(
    toy_data: Any, first: Path, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(VisiongraftError, match=words) as caught:
        go_on(toy_data(20), out=tmp_path / "run", **{"start": first, **settings})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_damaged_head_is_refused(toy_data: Any, first: Path, tmp_path: Path) -> None:
    model = visiongraft.load(first)
    with torch.no_grad():
        model.network.head.linear.bias[0] = torch.nan
    model.save(tmp_path / "model")
    with pytest.raises(ArtifactError, match=r"is damaged: tensor 'head\.linear\.bias'"):
        go_on(toy_data(20), start=tmp_path / "model")


def test_another_model_in_the_folder_is_refused_on_resume(
    toy_data: Any, first: Path, tmp_path: Path, fit_toy: Any
) -> None:
    visiongraft.load(first).save(tmp_path / "model")
    go_on(toy_data(30), start=tmp_path / "model", out=tmp_path / "run")
    (tmp_path / "model").rename(tmp_path / "moved")
    resumed = {"out": tmp_path / "run", "resume": True, "callbacks": ()}
    visiongraft.fit(toy_data(30), start=tmp_path / "moved", **resumed)
    visiongraft.load(tmp_path / "run").save(tmp_path / "moved")
    with pytest.raises(CheckpointError, match="the file of start has other content"):
        visiongraft.fit(toy_data(30), start=tmp_path / "moved", **resumed)


# ---- classes ----


def named(Toy: Any, strict: bool) -> Any:
    """Make a task that learns names from data, and may refuse data with other ones as it reads them."""

    @dataclass(frozen=True)
    class Named(Toy):
        names: tuple[str, ...] = ()

        def read(self, data: Any, **options: Any) -> Any:
            found = tuple(sorted({target for _, target in data}))
            if strict and self.names and set(found) - set(self.names):
                raise DataError(f"unknown class {found[-1]!r}")
            numbers = [(image, found.index(target)) for image, target in data]
            parts = super().read(numbers, **options)
            return replace(parts, train=With(parts.train, found))

        def bind(self, train: Any) -> Any:
            return replace(self, names=train.names)

        def metadata(self) -> Mapping[str, Any]:
            return {"class_names": list(self.names)}

    return Named


class With(DatasetSamples):
    def __init__(self, base: Any, names: tuple[str, ...]) -> None:
        super().__init__([(base.load(i), base.target(i)) for i in range(len(base))])
        object.__setattr__(self, "targets", [base.target(i) for i in range(len(base))])
        object.__setattr__(self, "names", names)


@pytest.mark.parametrize("strict", [True, False], ids=["as they are read", "once they are read"])
def test_data_of_other_classes_are_refused_if_the_task_names_no_class_rows(
    toy_data: Any, tmp_path: Path, Toy: Any, strict: bool
) -> None:
    task = named(Toy, strict)(augment=False)
    colors = [(image, "abc"[target]) for image, target in toy_data(30)]
    settings = {"backbone": "toys/toy", "weights": None, "task": task}
    go_on(colors, out=tmp_path / "first", **settings)
    go_on(colors, start=tmp_path / "first", task=task)
    others = [(image, {"c": "d"}.get(target, target)) for image, target in colors]
    with pytest.raises(OptionError) as caught:
        go_on(others, start=tmp_path / "first", task=task)
    assert str(caught.value) == (
        f"start={tmp_path / 'first'}: the data have class_names without 'c' with 'd', and task 'toy' does "
        "not say which tensors of its head depend on them (Task.class_rows); pass "
        f"backbone={tmp_path / 'first'} instead of start, to begin with a new head"
    )


def test_options_that_were_determined_after_training_are_determined_again(
    toy_data: Any, tmp_path: Path, Toy: Any
) -> None:
    @dataclass(frozen=True)
    class Deciding(Toy):
        threshold: float | None = None

        def after_training(self, results: Any) -> Any:
            if self.threshold is not None:
                return self
            return replace(self, threshold=float(results["seen"]))

    task = Deciding(augment=False)
    settings = {"backbone": "toys/toy", "weights": None, "task": task}
    first = go_on(toy_data(30), out=tmp_path / "first", **settings)
    again = go_on(toy_data(60), start=tmp_path / "first", task=task)
    assert (first.task.threshold, again.task.threshold) == (6.0, 12.0)
    kept = go_on(toy_data(60), start=tmp_path / "first", task=replace(task, threshold=1.0))
    assert kept.task.threshold == 1.0
