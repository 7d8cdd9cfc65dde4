"""What a file says about its model is compared with the model, and every difference is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from visiongraft.exporters.metadata import describe_trained
from visiongraft.exporters.verification.description import compare_description

KEYS = ["task", "task_class", "task_options", "task_metadata", "preprocess", "backbone", "training"]


@pytest.fixture
def described(exported: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads(json.dumps(describe_trained(exported.model)))
    return {**metadata, "format": 2, "precision": "int8"}


def test_a_file_of_the_model_differs_in_nothing(described: Any, exported: Any) -> None:
    assert compare_description(described, exported.model) == ([*KEYS, "weights_sha256"], [])


@pytest.mark.parametrize(
    ("plant", "change"),
    [
        (lambda d: d.update(task="tints"), 'task is "tints", but the model\'s is "shades"'),
        (
            lambda d: d["task_metadata"]["class_names"].__setitem__(1, "murky"),
            'task_metadata.class_names[1] is "murky", but the model\'s is "middle"',
        ),
        (
            lambda d: d["preprocess"].update(crop_fraction=0.5),
            "preprocess.crop_fraction is 0.5, but the model's is 1.0",
        ),
        (
            lambda d: d["preprocess"]["mean"].__setitem__(0, 0.25),
            "preprocess.mean[0] is 0.25, but the model's is 0.5",
        ),
        (
            lambda d: d["preprocess"].update(size=[32]),
            "preprocess.size is [32], but the model's is [32, 32]",
        ),
        (
            lambda d: d["backbone"]["provenance"].update(license="MIT"),
            "backbone.provenance.license is only in the file",
        ),
        (lambda d: d["training"].pop("epochs"), "training.epochs is only in the model"),
        (
            lambda d: d["task_options"].update(class_names="x" * 99),
            (
                f'task_options.class_names is "{"x" * 56}..., but the model\'s is ["dark", "middle", '
                '"/m/01bright"]'
            ),
        ),
        (
            lambda d: d.update(weights_sha256="0" * 64),
            "the model has other weights than the one that was exported",
        ),
    ],
)
def test_what_differs_is_named_with_both_values(
    described: Any, exported: Any, plant: Callable[[Any], object], change: str
) -> None:
    plant(described)
    assert compare_description(described, exported.model)[1] == [change]


def test_another_class_is_a_difference_and_another_module_is_none(
    described: Any, exported: Any
) -> None:
    assert compare_description({**described, "task_class": "mine:Shades"}, exported.model)[1] == []
    (change,) = compare_description({**described, "task_class": "mine:Tints"}, exported.model)[1]
    assert change.startswith("task_class is mine:Tints, but the model's is ")


def test_one_changed_value_of_one_tensor_is_seen_in_any_precision(
    described: Any, make_model: Callable[..., Any]
) -> None:
    model = make_model()
    assert compare_description(described, model)[1] == []
    model.network.head.norm.running_var[0] *= 1.0001
    (change,) = compare_description(described, model)[1]
    assert "other weights" in change


def test_a_file_that_says_less_is_compared_as_far_as_it_does(exported: Any, described: Any) -> None:
    older = {k: v for k, v in described.items() if k not in ("task_class", "weights_sha256")}
    keys, changes = compare_description(older, exported.model)
    assert (keys, changes) == ([key for key in KEYS if key != "task_class"], [])
