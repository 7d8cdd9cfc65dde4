from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from visiongraft.errors import ArtifactError
from visiongraft.exporters.runtime.onnx_file import MAX_BYTES, parse_onnx, read_onnx, refuse_unsafe

FLOAT = TensorProto.FLOAT


def graph_of(*nodes: onnx.NodeProto, name: str = "g") -> onnx.GraphProto:
    inputs = [helper.make_tensor_value_info("x", FLOAT, [1])] if name == "g" else []
    weight = numpy_helper.from_array(np.zeros(1, np.float32), f"weight_{name}")
    outputs = [helper.make_tensor_value_info("y", FLOAT, [1])]
    return helper.make_graph(list(nodes), name, inputs, outputs, [weight])


def model_of(graph: onnx.GraphProto, *, ir: int = 10, opset: int = 18) -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, ir_version=ir, opset_imports=opsets)


def write(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


RELU = helper.make_node("Relu", ["x"], ["y"])


def test_an_exported_file_is_read_as_the_onnx_package_reads_it(exported: Any) -> None:
    found, model = refuse_unsafe(exported.path), exported.load()
    assert found.ir_version == model.ir_version
    assert found.opsets == {entry.domain: entry.version for entry in model.opset_import}
    assert found.metadata == {entry.key: entry.value for entry in model.metadata_props}
    assert (found.domains, found.external_data) == (set(), False)


def test_absent_files_folders_and_other_content_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"x\.onnx does not exist"):
        read_onnx(tmp_path / "x.onnx")
    with pytest.raises(ArtifactError, match="is a folder"):
        read_onnx(tmp_path)
    for content in (b"", b"no model", b"\x89PNG\r\n\x1a\n", b"{}", b"\x08\x0a"):
        path = tmp_path / "x.onnx"
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="is not an ONNX file, or it is damaged"):
            read_onnx(path)


def test_a_file_over_two_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with open(path, "wb") as file:
        file.truncate(MAX_BYTES + 1)  # takes no space
    with pytest.raises(ArtifactError, match="one ONNX file can hold 2147483647"):
        read_onnx(path)


def test_external_data_is_refused_wherever_it_hides(tmp_path: Path) -> None:
    outside = numpy_helper.from_array(np.zeros(1, np.float32), "w")
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="../secret.bin")
    inner = graph_of(RELU, name="inner")
    inner.initializer.append(outside)
    nodes = {
        "constant": helper.make_node("Constant", [], ["y"], value=outside),
        "branch": helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner),
    }
    for node in nodes.values():
        with pytest.raises(ArtifactError, match="keeps weights in other files"):
            refuse_unsafe(write(tmp_path, model_of(graph_of(node))))
    graph = graph_of(RELU)
    graph.initializer.append(outside)
    with pytest.raises(ArtifactError, match="export it as one file"):
        refuse_unsafe(write(tmp_path, model_of(graph)))


def test_unknown_operators_are_refused_wherever_they_hide(tmp_path: Path) -> None:
    evil = helper.make_node("Evil", ["x"], ["y"], domain="my.evil")
    inner = graph_of(evil, name="inner")
    branch = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    for node in (evil, branch):
        with pytest.raises(ArtifactError, match=r"needs operators of my\.evil"):
            refuse_unsafe(write(tmp_path, model_of(graph_of(node))))
    model = model_of(graph_of(RELU))
    function = helper.make_function("f", "F", ["x"], ["y"], [evil], list(model.opset_import))
    model.functions.append(function)
    with pytest.raises(ArtifactError, match=r"needs operators of my\.evil"):
        refuse_unsafe(write(tmp_path, model))


def test_versions_that_onnxruntime_cannot_read_are_refused(tmp_path: Path) -> None:
    refuse_unsafe(write(tmp_path, model_of(graph_of(RELU), ir=13, opset=26)))
    with pytest.raises(ArtifactError, match="has IR version 14; at most 13"):
        refuse_unsafe(write(tmp_path, model_of(graph_of(RELU), ir=14)))
    with pytest.raises(ArtifactError, match="has opset 27; at most 26"):
        refuse_unsafe(write(tmp_path, model_of(graph_of(RELU), opset=27)))


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        parse_onnx(memoryview(content))
    except ValueError:
        pass


@settings(max_examples=300)
@given(st.data())
def test_damaged_files_are_read_or_refused(data: st.DataObject) -> None:
    branch = helper.make_node(
        "If", ["x"], ["y"], then_branch=graph_of(RELU, name="a"), else_branch=graph_of(RELU)
    )
    model = model_of(graph_of(branch))
    helper.set_model_props(model, {"input": "{}"})
    content = bytearray(model.SerializeToString())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:position]
    else:
        content[position] = data.draw(st.integers(0, 255))
    try:
        found = parse_onnx(memoryview(content))
    except ValueError:
        return
    assert found.opsets
