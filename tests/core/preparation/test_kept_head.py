"""Continuing with a model for other classes, or with another head: what fits is kept, and reported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import visiongraft
from visiongraft.backbone import Backbone, Features
from visiongraft.data.images import DatasetSamples
from visiongraft.errors import DataError, OptionError
from visiongraft.hookspecs import hookimpl
from visiongraft.task_contract.class_rows import ClassRows

SETTINGS: dict[str, Any] = {
    "schedule": "full(learning_rate=0.02)",
    "epochs": 1,
    "device": "cpu",
    "callbacks": (),
}


class Layers(nn.Module):
    """A neck, and a classifier whose rows come in groups, each with a background first."""

    def __init__(self, inputs: int, classes: int, groups: int, width: int) -> None:
        super().__init__()
        self.neck = nn.Linear(inputs, width)
        self.groups = groups
        self.classifier = nn.Linear(width, groups * (classes + (groups > 1)))

    def forward(self, features: Features) -> torch.Tensor:
        scores: torch.Tensor = self.classifier(self.neck(features.pooled).relu())
        return scores.unflatten(1, (self.groups, -1)).mean(1)[:, (self.groups > 1) :]


class Named(DatasetSamples):
    def __init__(self, base: Any, names: tuple[str, ...]) -> None:
        super().__init__([(base.load(i), base.target(i)) for i in range(len(base))])
        object.__setattr__(self, "targets", [base.target(i) for i in range(len(base))])
        object.__setattr__(self, "names", names)


@pytest.fixture(scope="module")
def Colors(Toy: Any) -> Any:
    """A task that takes its class names from the data, as third-party tasks may."""

    @dataclass(frozen=True)
    class Colors(Toy):
        class_names: tuple[str, ...] = ()
        groups: int = 1
        width: int = 6
        name = "colors"

        def read(self, data: Any, **options: Any) -> Any:
            names = self.class_names or tuple(sorted({target for _, target in data}))
            unknown = {target for _, target in data} - set(names)
            if unknown:
                raise DataError(f"unknown class {min(unknown)!r}")
            parts = super().read([(i, names.index(t)) for i, t in data], **options)
            return replace(parts, train=Named(parts.train, names))

        def bind(self, train: Any) -> Any:
            return replace(self, class_names=train.names)

        def build_head(self, backbone: Backbone) -> nn.Module:
            dim = backbone.info.embedding_dim
            return Layers(dim, len(self.class_names), self.groups, self.width)

        def metadata(self) -> Mapping[str, Any]:
            return {"class_names": list(self.class_names)}

    return Colors


class AtStart:
    """Keeps the head that a run begins with."""

    @hookimpl
    def run_started(self, run: Any) -> None:
        self.head = {n: t.clone() for n, t in run.network.head.state_dict().items()}
        self.lines = (*run.notes, *run.warnings)


def data(toy_data: Any, names: str) -> list[tuple[Any, str]]:
    return [(image, names[target]) for image, target in toy_data(24)]


@pytest.fixture(scope="module")
def first(Colors: Any, toy_data: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Trains a model for the classes a, b and c."""
    made: dict[int, Any] = {}

    def train(groups: int = 1) -> Any:
        if groups not in made:
            made[groups] = visiongraft.fit(
                data(toy_data, "abc"),
                task=Colors(augment=False, groups=groups),
                backbone="toys/toy",
                weights=None,
                **SETTINGS,
            )
        return made[groups]

    return train


def test_rows_of_classes_with_the_same_name_are_kept_and_the_rest_begins_anew(
    Colors: Any, toy_data: Any, first: Any
) -> None:
    model, watch = first(), AtStart()
    before = model.network.head.state_dict()
    again = visiongraft.fit(
        data(toy_data, "cad"),
        start=model,
        task=Colors(augment=False),
        **(SETTINGS | {"callbacks": [watch]}),
    )
    assert again.task.class_names == ("a", "c", "d")
    assert torch.equal(watch.head["neck.weight"], before["neck.weight"])
    for kind in ("classifier.weight", "classifier.bias"):
        assert torch.equal(watch.head[kind][:2], before[kind][[0, 2]])
        assert not torch.equal(watch.head[kind][2], before[kind][1])
    assert watch.lines == (
        "start: kept: backbone, neck",
        "start: classes kept in classifier: a, c; begun anew: d",
    )
    assert again.facts["start"] == {
        "backbone": "kept",
        "kept": ["neck"],
        "kept by class": ["classifier"],
        "classes kept": ["a", "c"],
        "classes begun anew": ["d"],
    }


def test_as_many_classes_with_other_names_are_never_taken_for_the_same(
    Colors: Any, toy_data: Any, first: Any
) -> None:
    model, watch = first(), AtStart()
    settings = SETTINGS | {"callbacks": [watch]}
    visiongraft.fit(data(toy_data, "xyz"), start=model, task=Colors(), **settings)
    before = model.network.head.state_dict()["classifier.weight"]
    assert before.shape == watch.head["classifier.weight"].shape
    assert not (before == watch.head["classifier.weight"]).any()
    assert watch.lines[-1] == "start: classifier of the head begins anew"


def test_a_task_says_where_its_classes_are_if_the_core_cannot_find_out(
    Colors: Any, toy_data: Any, first: Any
) -> None:
    @dataclass(frozen=True)
    class Saying(Colors):
        def class_rows(self, backbone: Backbone) -> Mapping[str, ClassRows]:
            rows = ClassRows(self.class_names, groups=2, before=1)
            return {"classifier.weight": rows, "classifier.bias": rows}

    model, watch = first(2), AtStart()
    before = model.network.head.state_dict()["classifier.bias"]
    settings = SETTINGS | {"callbacks": [watch]}
    visiongraft.fit(data(toy_data, "bbd"), start=model, task=Colors(groups=2), **settings)
    assert watch.lines[-1] == "start: classifier of the head begins anew"
    model.network.task = Saying(**model.task.options())
    visiongraft.fit(data(toy_data, "bbd"), start=model, task=Saying(groups=2), **settings)
    # background, a, b, c in each of two groups; then background, b, d
    kept = watch.head["classifier.bias"]
    assert torch.equal(kept[[0, 1, 3, 4]], before[[0, 2, 4, 6]])
    model.network.task = Colors(**model.task.options())


def test_data_of_fewer_classes_keep_those_of_the_model_unless_they_are_named(
    Colors: Any, toy_data: Any, first: Any
) -> None:
    two = data(toy_data, "aab")
    kept = visiongraft.fit(two, start=first(), task=Colors(), **SETTINGS)
    assert kept.task.class_names == ("a", "b", "c")
    assert kept.facts["start"] == {"backbone": "kept", "kept": ["neck", "classifier"]}
    named = visiongraft.fit(two, start=first(), task=Colors(class_names=("b", "a")), **SETTINGS)
    assert named.task.class_names == ("b", "a")
    assert named.facts["start"]["classes kept"] == ["b", "a"]


def test_a_head_of_another_width_is_not_kept_in_silence(
    Colors: Any, toy_data: Any, first: Any
) -> None:
    watch = AtStart()
    settings = SETTINGS | {"callbacks": [watch]}
    visiongraft.fit(data(toy_data, "abc"), start=first(), task=Colors(groups=2), **settings)
    assert watch.lines == (
        "start: kept: backbone, neck",
        "start: classifier of the head begins anew",
    )
    with pytest.raises(OptionError, match=r"start=MODEL: no tensor of the model's head fits"):
        visiongraft.fit(
            data(toy_data, "xyz"), start=first(), task=Colors(width=9, groups=2), **SETTINGS
        )


def test_a_run_with_other_classes_resumes_as_if_it_had_not_been_interrupted(
    Colors: Any, toy_data: Any, first: Any, tmp_path: Path
) -> None:
    def stop(record: Any) -> None:
        raise KeyboardInterrupt

    images = data(toy_data, "cad")
    settings = {**SETTINGS, "epochs": 2, "start": first()}
    whole = visiongraft.fit(images, task=Colors(augment=False), out=tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        visiongraft.fit(
            images,
            task=Colors(augment=False),
            out=tmp_path / "part",
            **(settings | {"callbacks": [stop]}),
        )
    stored = json.loads((tmp_path / "part" / "config.json").read_text())["task_options"]
    assert stored["class_names"] == []
    again = visiongraft.fit(
        images, task=Colors(augment=False), out=tmp_path / "part", resume=True, callbacks=()
    )
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name]), name
    assert again.facts["start"] == whole.facts["start"]
