"""What a traced model must be, and what it must not contain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest
from onnx import helper

from visiongraft.errors import ExportError
from visiongraft.exporters.onnx.graph import check_model, trace
from visiongraft.preprocess import PreprocessConfig


def other_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 20


def second_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 1))


def newer_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 14


def fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def fixed_width(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 61


def no_resize(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.op_type = "Upsample" if node.op_type == "Resize" else node.op_type


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_opset, "operator sets {'ai.onnx': 20}, not only ONNX 18"),
        (second_domain, "'com.example': 1"),
        (newer_ir, "IR version 14"),
        (fixed_batch, "fixed the input's batch"),
        (fixed_width, "fixed the input's width"),
        (no_resize, "does not resize its images"),
    ],
)
def test_a_model_that_is_not_as_requested_is_refused(
    exported: Any, change: Callable[[onnx.ModelProto], None], message: str
) -> None:
    model, config = exported.load(), exported.model.backbone_info.preprocess
    check_model(model, config, size_is_fixed=False)
    change(model)
    with pytest.raises(ExportError, match=message):
        check_model(model, config, size_is_fixed=False)


def test_a_fixed_size_does_not_allow_a_fixed_batch(exported: Any) -> None:
    model, config = exported.load(), exported.model.backbone_info.preprocess
    fixed_width(model)
    check_model(model, config, size_is_fixed=True)
    fixed_batch(model)
    with pytest.raises(ExportError, match="fixed the input's batch, width"):
        check_model(model, config, size_is_fixed=True)


def test_the_cubic_coefficient_is_asserted_for_bicubic_only(exported: Any) -> None:
    config = PreprocessConfig((32, 32), interpolation="bicubic")
    with pytest.raises(ExportError, match=r"cubic_coeff_a': -0\.75"):
        check_model(exported.load(), config, size_is_fixed=False)


def test_a_fixed_size_may_be_the_networks_own(make_small_model: Callable[..., Any]) -> None:
    graph = make_small_model().inference_graph()
    model = trace(graph, (32, 32))
    check_model(model, graph.preprocess.config, size_is_fixed=True)


def test_nothing_for_debugging_is_left(exported: Any) -> None:
    graph = exported.load().graph
    for message in (graph, *graph.node, *graph.value_info, *graph.initializer):
        assert not message.metadata_props
        assert not message.doc_string
