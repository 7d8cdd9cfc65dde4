"""Files for tests that need no file of a network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

from visiongraft.exporters.runtime.onnx_content import certificate_field, content_sha256


@pytest.fixture
def handmade() -> Callable[..., Path]:
    """Return the function that writes a file without a network."""
    return write_handmade


@pytest.fixture
def shades(exported: Any, tmp_path: Path) -> Path:
    """Return a copy of the exported file with nothing beside it."""
    return Path(shutil.copy(exported.path, tmp_path / "shades.onnx"))


def write_handmade(
    path: Path,
    tensors: Mapping[str, tuple[int, Sequence[Any]]],
    batch: int = 8,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write a file as visiongraft would, of a graph that returns its inputs."""
    inputs = [helper.make_tensor_value_info(f"{n}_in", *what) for n, what in tensors.items()]
    outputs = [helper.make_tensor_value_info(n, *what) for n, what in tensors.items()]
    nodes = [helper.make_node("Identity", [f"{n}_in"], [n]) for n in tensors]
    graph = helper.make_graph(nodes, "handmade", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    certificate = {"comparisons": [{"batch": 1}, {"batch": batch}]}
    values = {
        "task": "none",
        "task_options": {},
        "task_metadata": about or {},
        "input": {"name": "x", "channels": 3},
    }
    helper.set_model_props(model, {key: json.dumps(value) for key, value in values.items()})
    path.write_bytes(model.SerializeToString())
    text = json.dumps({**certificate, "content_sha256": content_sha256(path)})
    path.write_bytes(path.read_bytes() + certificate_field(text))
    return path
