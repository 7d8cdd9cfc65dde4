"""The metadata of an exported ONNX file: JSON values in its ``metadata_props``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import onnx
import onnxruntime

from visiongraft.class_file import OPEN_INPUTS
from visiongraft.exporters.float_graph import SIZES
from visiongraft.exporters.metadata import describe_model, file_versions, named_input, raw_input
from visiongraft.exporters.onnx.options import ExportOptions

if TYPE_CHECKING:
    from visiongraft.model import TransferModel


def describe(
    model: TransferModel, exported: onnx.ModelProto, options: ExportOptions
) -> dict[str, Any]:
    """Collect the metadata.

    Args:
        model: The model that was exported.
        exported: Its traced graph.
        options: The exporter's options.

    Returns:
        The result of ``describe_model``, and ``opset``.
    """
    taken = _input(model, exported, options)
    outputs = [_output(output) for output in exported.graph.output]
    extras = options.extra_outputs
    described = describe_model(model, taken, outputs, versions(), options.precision, extras)
    opened = model.task.open_inputs() if options.open_classes else {}
    shapes = {name: list(_shape(exported, name)) for name in opened}
    more = {OPEN_INPUTS: shapes} if shapes else {}
    return {**described, **more, "opset": exported.opset_import[0].version}


def _input(
    model: TransferModel, exported: onnx.ModelProto, options: ExportOptions
) -> dict[str, Any]:
    info, inputs = model.backbone_info, model.task.inputs
    if options.input != "float":
        return raw_input(inputs, info, options.size)
    height, width = options.size or info.preprocess.size
    sizes = any(entry.name == SIZES for entry in exported.graph.input)
    return {
        **named_input(inputs, info),
        "kind": "float",
        "dtype": "float32",
        "layout": "NCHW",
        "values": "resized and normalized",
        "height": height,
        "width": width,
        "sizes": SIZES if sizes else None,
    }


def _shape(exported: onnx.ModelProto, name: str) -> Iterator[int | str]:
    """Return the shape of an input."""
    (entry,) = (each for each in exported.graph.input if each.name == name)
    for dim in entry.type.tensor_type.shape.dim:
        yield dim.dim_param or dim.dim_value


def versions() -> dict[str, str]:
    """Return the versions of the libraries that make and check the file."""
    return file_versions("torch", "onnx", "onnxscript") | {"onnxruntime": onnxruntime.__version__}


def _output(output: onnx.ValueInfoProto) -> dict[str, Any]:
    tensor = output.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    shape = [d.dim_value or d.dim_param for d in tensor.shape.dim]
    return {"name": output.name, "dtype": str(dtype), "shape": shape}
