"""Trace the graph that PyTorch evaluates into one ONNX model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx
import torch

from visiongraft.errors import ExportError
from visiongraft.exporters.runtime.onnx_file import MAX_IR_VERSION
from visiongraft.exporters.tracing import example_batch, silenced, untraceable
from visiongraft.inputs import IMAGES, Inputs
from visiongraft.network import InferenceGraph
from visiongraft.preprocess import PreprocessConfig
from visiongraft.system.progress import working

EXPORTER = "onnx"
OPSET = 18  # the widest support; the antialiased resize needs it


def trace(
    graph: InferenceGraph,
    size: tuple[int, int] | None = None,
    *,
    outputs: Sequence[str] | None = None,
    opset: int = OPSET,
) -> onnx.ModelProto:
    """Trace an inference graph.

    Args:
        graph: In evaluation mode, on the CPU, of any form.
        size: Fixed height and width of the images in pixels; any size if ``None``.
        outputs: Names of the outputs in their order; the graph is run to find them if ``None``.
        opset: Version of the operator set.

    Returns:
        A model with the raw input of the task, such as ``images``, uint8 (N, H, W, C), or of a
        ``FloatGraph`` float32 (N, C, height, width) and, where the task's decoding reads them,
        ``sizes``. It has one output for
        each of the task's decoded results, in their order, and holds no stack traces and no paths.

    Raises:
        ExportError: PyTorch cannot trace it, or made something else than requested.
    """
    kind = graph.preprocess.inputs
    inputs = graph.inputs(example_batch(graph.preprocess, size))
    if outputs is None:
        with torch.no_grad():
            outputs = list(graph(*inputs.values()))  # the exporter keeps this order
    raw = kind.axes(fixed_size=size is not None or graph.takes_prepared)
    failure: Exception | None = None
    with working("tracing the ONNX graph"), silenced():
        try:
            program = torch.onnx.export(
                graph,
                tuple(inputs.values()),
                dynamo=True,
                dynamic_shapes=(raw, *graph.further_axes()),
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=opset,
                custom_translation_table=graph.task.export_support().operators_for(EXPORTER),
                verbose=False,
            )
            assert program is not None  # with dynamo=True it never is
            model = program.model_proto
        except Exception as error:  # whatever any operator's tracing raises
            failure = error
    if failure is not None:
        raise untraceable(failure, size)
    _drop_unread_inputs(model)
    return _strip(model)


def check_model(
    model: onnx.ModelProto,
    config: PreprocessConfig | None,
    size_is_fixed: bool,
    opset: int = OPSET,
    inputs: Inputs = IMAGES,
) -> None:
    """Check what every traced model must fulfill, whatever its options.

    Args:
        model: The model.
        config: The preprocessing that it must hold, if any.
        size_is_fixed: Whether height and width may be constants.
        opset: The requested version of the operator set.
        inputs: What it takes.

    Raises:
        ExportError: Something differs.
    """
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if opsets != {"ai.onnx": opset} or model.functions:
        raise ExportError(f"the exporter used the operator sets {opsets}, not only ONNX {opset}")
    if model.ir_version > MAX_IR_VERSION:
        raise ExportError(f"the exporter wrote IR version {model.ir_version}, not {MAX_IR_VERSION}")
    dims = model.graph.input[0].type.tensor_type.shape.dim
    fixed = [name for axis, name in inputs.axes().items() if not dims[axis].dim_param]
    if fixed and (not size_is_fixed or "batch" in fixed):
        raise ExportError(
            f"the exporter fixed the input's {', '.join(fixed)}, which must stay dynamic"
        )
    if config is not None:
        _check_resize(model, config)


def _check_resize(model: onnx.ModelProto, config: PreprocessConfig) -> None:
    """Older exporters write a resize that looks right and is not; the first one is ours."""
    if config.resize == "pad":
        return
    resize = next((node for node in model.graph.node if node.op_type == "Resize"), None)
    if resize is None:
        raise ExportError("the exported graph does not resize its images")
    found = {a.name: onnx.helper.get_attribute_value(a) for a in resize.attribute}
    expected: dict[str, float] = {"antialias": 1, "exclude_outside": 1}
    if config.interpolation == "bicubic":
        expected["cubic_coeff_a"] = -0.5
    wrong = {k: found.get(k) for k, v in expected.items() if found.get(k) != v}
    if wrong:
        raise ExportError(
            f"the exported resize has {wrong} instead of {expected}; update onnxscript"
        )


def _drop_unread_inputs(model: onnx.ModelProto) -> None:
    """Remove unused inputs, such as sizes that a task's decoding does not need."""
    read = {name for graph in _graphs(model) for node in graph.node for name in node.input}
    for entry in [entry for entry in model.graph.input if entry.name not in read]:
        model.graph.input.remove(entry)


def _strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove what the exporter adds for debugging: stack traces name local files and code."""
    for graph in _graphs(model):
        graph.doc_string = ""
        for message in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
            message.doc_string = ""
            message.ClearField("metadata_props")
        for tensor in graph.initializer:
            tensor.doc_string = ""
            tensor.ClearField("metadata_props")
    model.doc_string = ""
    model.ClearField("metadata_props")
    return model


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """Yield the graph and those inside its nodes."""
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        yield graph
        for attribute in (a for node in graph.node for a in node.attribute):
            graphs += [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
