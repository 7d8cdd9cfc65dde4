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
from visiongraft.exporters.onnx.options import ExportOptions
from visiongraft.exporters.onnx.variants import IMAGES, SIZES

if TYPE_CHECKING:
    from visiongraft.backbone import BackboneInfo
    from visiongraft.model import TransferModel

FORMAT = 1  # version of the layout below
_FOLDERS = re.compile(r"(?<![\w:/\\.])(?:[A-Za-z]:[\\/]|/)(?:[^\s/\\:'\"]+[/\\])+")


def describe(
    model: TransferModel, exported: onnx.ModelProto, options: ExportOptions
) -> dict[str, Any]:
    """Collect what a deployer needs to know.

    Args:
        model: The model that was exported.
        exported: Its traced graph.
        options: What the user chose.

    Returns:
        JSON values by key: ``format, task, task_options, task_metadata, preprocess, input,
        outputs, precision, versions, opset, backbone, training``. The certificate comes later.
        Paths in ``backbone`` and ``training`` are cut to file names.
    """
    info = model.backbone_info
    return {
        "format": FORMAT,
        "task": model.task.name,
        "task_options": model.task.options(),
        "task_metadata": model.task.metadata(),
        "preprocess": asdict(info.preprocess),
        "input": _input(info, exported, options),
        "outputs": [_output(output) for output in exported.graph.output],
        "precision": options.precision,
        "versions": versions(),
        "opset": exported.opset_import[0].version,
        "backbone": {"name": info.name, "provenance": without_folders(info.provenance)},
        "training": without_folders(model.facts),
    }


def backbone_facts(model: TransferModel) -> dict[str, str]:
    """Tell where the pretrained weights came from, as far as that is known.

    Args:
        model: The model.

    Returns:
        ``name``, and of ``source``, ``weights``, ``license``, ``sha256`` what is known.
    """
    info = model.backbone_info
    facts = {"name": info.name, **info.provenance}
    known = {key: value for key, value in facts.items() if value != "unknown"}
    return dict(without_folders(known))


def _input(info: BackboneInfo, exported: onnx.ModelProto, options: ExportOptions) -> dict[str, Any]:
    colour = {1: "grey", 3: "RGB"}.get(info.in_channels, "as in the data")
    named = {"name": IMAGES, "kind": options.input, "channels": info.in_channels, "colour": colour}
    if options.input == "float":
        height, width = options.size or info.preprocess.size
        sizes = any(entry.name == SIZES for entry in exported.graph.input)
        kind = {"dtype": "float32", "layout": "NCHW", "values": "resized and normalised"}
        return {
            **named,
            **kind,
            "height": height,
            "width": width,
            "sizes": SIZES if sizes else None,
        }
    fixed_height, fixed_width = options.size or (None, None)
    kind = {"dtype": "uint8", "layout": "NHWC"}
    return {**named, **kind, "height": fixed_height, "width": fixed_width}


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
