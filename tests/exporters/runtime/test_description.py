from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visiongraft.errors import ArtifactError
from visiongraft.exporters.runtime.description import FORMAT, InputSpec, read_description

INPUT = {"name": "images", "channels": 3, "height": None, "width": None}
PATH = Path("m.onnx")


def texts(**changes: Any) -> dict[str, str]:
    values = {"task": "t", "task_options": {}, "task_metadata": {}, "input": INPUT, **changes}
    return {key: json.dumps(value) for key, value in values.items()}


def test_raw_images_are_the_default() -> None:
    metadata, spec = read_description(PATH, texts(extra=[1]))
    assert spec == InputSpec("images", "uint8", "uint8", 3, None, None)
    assert metadata["extra"] == [1]
    assert str(spec) == "uint8 (images, any, any, 3)"
    assert spec.shape(2, 5, 7) == (2, 5, 7, 3)


def test_preprocessed_input_has_its_channels_first() -> None:
    entry = {**INPUT, "kind": "float", "height": 32, "width": 40}
    _, spec = read_description(PATH, texts(input=entry))
    assert str(spec) == "float32 (images, 3, 32, 40)"
    assert spec.shape(2, 5, 7) == (2, 3, 32, 40)
    assert spec.accepts(np.zeros((1, 3, 32, 40), np.float32))
    assert not spec.accepts(np.zeros((1, 3, 32, 41), np.float32))
    assert not spec.accepts(np.zeros((1, 32, 40, 3), np.float32))
    assert not spec.accepts(np.zeros((1, 3, 32, 40)))
    _, spec = read_description(PATH, texts(input={**entry, "dtype": "float16"}))
    assert spec.accepts(np.zeros((1, 3, 32, 40), np.float16))
    assert spec.names == ["images"]
    _, spec = read_description(PATH, texts(input={**entry, "sizes": "sizes"}))
    assert spec.names == ["images", "sizes"]


@pytest.mark.parametrize(
    "entry",
    [
        {**INPUT, "name": 3},
        {**INPUT, "channels": "3"},
        {**INPUT, "channels": True},
        {**INPUT, "channels": 0},
        {**INPUT, "height": 2.5},
        {**INPUT, "width": -1},
        {**INPUT, "kind": "int4"},
        {**INPUT, "kind": ["uint8"]},
        {**INPUT, "dtype": "float32"},
        {**INPUT, "dtype": {}},
        {**INPUT, "layout": "NCHW"},
        {**INPUT, "sizes": "sizes"},
        {**INPUT, "kind": "float", "sizes": 2},
        [],
        None,
    ],
)
def test_an_input_that_makes_no_sense_is_refused(entry: Any) -> None:
    with pytest.raises(ArtifactError, match="does not describe its input; was it exported by"):
        read_description(PATH, texts(input=entry))


@pytest.mark.parametrize(
    "changes", [{"task": 1}, {"task_options": None}, {"task_metadata": []}], ids=str
)
def test_a_task_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="does not describe its input"):
        read_description(PATH, texts(**changes))


PREPROCESS = {
    "size": [32, 32],
    "mean": [0.5] * 3,
    "std": [0.2] * 3,
    "interpolation": "bilinear",
    "resize": "crop",
    "crop_fraction": 1.0,
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("preprocess", []),
        ("preprocess", {}),
        ("preprocess", {**PREPROCESS, "size": 32}),
        ("preprocess", {**PREPROCESS, "size": [32]}),
        ("preprocess", {**PREPROCESS, "size": ["a", "b"]}),
        ("preprocess", {**PREPROCESS, "mean": "0.5"}),
        ("preprocess", {**PREPROCESS, "std": [None]}),
        ("preprocess", {**PREPROCESS, "std": [float("nan")]}),
        ("preprocess", {**PREPROCESS, "resize": 1}),
        ("preprocess", {**PREPROCESS, "crop_fraction": "1"}),
        ("task_metadata", {"class_names": "cat"}),
        ("task_metadata", {"class_names": [1, 2]}),
        ("outputs", {"a": 1}),
        ("outputs", [1]),
        ("precision", 16),
        ("versions", "2.0"),
        ("backbone", ["resnet"]),
        ("training", 3),
        ("task_class", ["mine:Task"]),
        ("weights_sha256", None),
        ("functions", []),
        ("functions", {"draw": "mine:Task.draw"}),
        ("functions", {"draw": {"method": None, "distribution": None, "others": []}}),
        ("functions", {"draw": {"method": "mine:Task.draw", "others": []}}),
        ("functions", {"draw": {"method": "mine:Task.draw", "distribution": None, "others": "a"}}),
    ],
)
def test_metadata_of_another_type_are_one_line_that_names_them(key: str, value: Any) -> None:
    read_description(PATH, texts(preprocess=PREPROCESS))
    with pytest.raises(ArtifactError, match=f"is damaged: {key!r} in its metadata is not a"):
        read_description(PATH, texts(**{key: value}))


@pytest.mark.parametrize("key", ["other", "format", "preprocess", "certificate"])
def test_what_is_not_json_is_refused_and_named(key: str) -> None:
    for text in ("{", "", "[" * 100_000):
        with pytest.raises(ArtifactError, match=f"is damaged: {key!r} in its metadata is not JSON"):
            read_description(PATH, {**texts(), key: text})
    with pytest.raises(ArtifactError, match="does not describe its input"):
        read_description(PATH, {"author": "someone else", "other": "{"})


def test_a_file_of_another_format_is_refused_with_the_version_that_made_it() -> None:
    old = texts(format=FORMAT - 1, versions={"visiongraft": "0.1.0", "torch": "2.11"})
    with pytest.raises(ArtifactError) as caught:
        read_description(PATH, old)
    assert str(caught.value) == (
        f"{PATH} was exported by visiongraft 0.1.0 in format {FORMAT - 1}; this version reads format "
        f"{FORMAT}: export the model again"
    )
    read_description(PATH, texts(format=FORMAT))
