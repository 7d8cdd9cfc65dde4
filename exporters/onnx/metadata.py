"""What an exported file says about itself: JSON values in its ``metadata_props``."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import onnx
import onnxruntime

import visiongraft
from visiongraft.exporters.onnx.graph import INPUT, OPSET

if TYPE_CHECKING:
    from visiongraft.model import TransferModel

FORMAT = 1  # version of the layout below
_FOLDERS = re.compile(r"(?<![\w:/\\.])(?:[A-Za-z]:[\\/]|/)(?:[^\s/\\:'\"]+[/\\])+")


def describe(
    model: TransferModel, exported: onnx.ModelProto, size: tuple[int, int] | None
) -> dict[str, Any]:
    """Collect what a deployer needs to know.

    Args:
        model: The model that was exported.
        exported: Its traced graph.
        size: Fixed height and width of the input, or ``None``.

    Returns:
        JSON values by key: ``format, task, task_options, task_metadata, preprocess, input,
        outputs, versions, opset, backbone, training``. The certificate comes later. Paths in
        ``backbone`` and ``training`` are cut to file names.
    """
    info = model.backbone_info
    height, width = size or (None, None)
    return {
        "format": FORMAT,
        "task": model.task.name,
        "task_options": model.task.options(),
        "task_metadata": model.task.metadata(),
        "preprocess": asdict(info.preprocess),
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "layout": "NHWC",
            "channels": info.in_channels,
            "colour": {1: "grey", 3: "RGB"}.get(info.in_channels, "as in the data"),
            "height": height,
            "width": width,
        },
        "outputs": [_output(output) for output in exported.graph.output],
        "versions": versions(),
        "opset": OPSET,
        "backbone": {"name": info.name, "provenance": without_folders(info.provenance)},
        "training": without_folders(model.facts),
    }


def versions() -> dict[str, str]:
    """Give the versions of what makes and checks the file."""
    found = {
        "visiongraft": visiongraft.__version__,
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
    }
    return found | {name: version(name) for name in ("torch", "onnx", "onnxscript")}


def as_properties(values: Mapping[str, Any]) -> dict[str, str]:
    """Write values as the JSON texts that ``metadata_props`` can hold."""
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}


def without_folders(value: Any) -> Any:
    """Cut absolute paths in JSON values to file names: a shipped file must not tell about a disk.

    Args:
        value: Any JSON value.

    Returns:
        The same with shorter texts.

    Examples:
        >>> without_folders({"weights": "/home/me/resnet.safetensors", "lr": 0.1})
        {'weights': 'resnet.safetensors', 'lr': 0.1}
    """
    if isinstance(value, Mapping):
        return {key: without_folders(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(v) for v in value]
    if not isinstance(value, str):
        return value
    for kind in (PurePosixPath, PureWindowsPath):
        if kind(value).is_absolute():
            return kind(value).name
    return _FOLDERS.sub("", value)


def _output(output: onnx.ValueInfoProto) -> dict[str, Any]:
    tensor = output.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    shape = [d.dim_value or d.dim_param for d in tensor.shape.dim]
    return {"name": output.name, "dtype": str(dtype), "shape": shape}
