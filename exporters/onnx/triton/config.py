"""The configuration that Triton Inference Server needs to serve an exported file.

It is a ``ModelConfig`` of Triton's protocol buffers in their text form. All of it is read from the
file itself: names, types and axes from its graph, the rest from its metadata and certificate.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from visiongraft.errors import ArtifactError, escape_unprintable, one_line
from visiongraft.exporters.runtime.description import CERTIFICATE, read_description
from visiongraft.exporters.runtime.onnx_content import content_sha256
from visiongraft.exporters.runtime.onnx_file import refuse_unsafe

LABELS = "labels.txt"
_SCORES = "probabilities"  # an output of this name with one value for each label gets their names
_TYPES = {
    "BOOL": "TYPE_BOOL",
    "DOUBLE": "TYPE_FP64",
    "FLOAT": "TYPE_FP32",
    "FLOAT16": "TYPE_FP16",
    "INT8": "TYPE_INT8",
    "INT16": "TYPE_INT16",
    "INT32": "TYPE_INT32",
    "INT64": "TYPE_INT64",
    "STRING": "TYPE_STRING",
    "UINT8": "TYPE_UINT8",
    "UINT16": "TYPE_UINT16",
    "UINT32": "TYPE_UINT32",
    "UINT64": "TYPE_UINT64",
}  # those that Triton's onnxruntime backend knows
_SCHEDULING = """\
dynamic_batching {
  max_queue_delay_microseconds: 0
}
"""
_INSTANCES = """\
instance_group [
  {
    count: 1
    kind: KIND_AUTO
  }
]
"""


@dataclass(frozen=True)
class TritonConfig:
    """The files beside a model's versions.

    Attributes:
        text: The content of ``config.pbtxt``.
        labels: The content of ``labels.txt``; empty if no output has label names.
    """

    text: str
    labels: str


@dataclass(frozen=True)
class _Tensor:
    """An input or output; an axis is a number, or the name of a dynamic axis, which may be empty."""

    name: str
    type: str
    axes: tuple[int | str, ...]


def describe_for_triton(path: Path, name: str) -> TritonConfig:
    """Write the configuration of a file.

    Args:
        path: A file that visiongraft exported.
        name: How Triton calls the model.

    Returns:
        The configuration.

    Raises:
        ArtifactError: The file is missing, unsafe, damaged, not visiongraft's, not as it was
            certified, or has an input or output that Triton cannot serve.
    """
    declared = refuse_unsafe(path)
    metadata, _ = read_description(path, declared.metadata)
    largest = _proved_batch(path, declared.metadata, metadata)
    graph = _read_graph(path)
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [_tensor(path, entry) for entry in graph.input if entry.name not in constants]
    outputs = [_tensor(path, entry) for entry in graph.output]
    batched = _have_batch_axis([*inputs, *outputs])
    classes = _class_names(metadata)
    named = [t.name == _SCORES and t.axes[1:] == (len(classes),) for t in outputs]
    parts = [
        "# Written by visiongraft. Inputs and outputs are those of the file; change the rest freely.\n",
        f"name: {_quoted(name)}\n",
        'backend: "onnxruntime"\n',
        f"max_batch_size: {largest if batched else 0}\n",
        _entries("input", inputs, [False] * len(inputs), batched),
        _entries("output", outputs, named, batched),
        _SCHEDULING if batched else "",
        _INSTANCES,
    ]
    lines = "".join(f"{escape_unprintable(' '.join(name.split()))}\n" for name in classes)
    return TritonConfig("".join(parts), lines if any(named) else "")


def _proved_batch(path: Path, texts: Mapping[str, str], metadata: Mapping[str, Any]) -> int:
    """Return the largest batch that the certificate proves, if it is that of these bytes."""
    try:
        certificate = metadata[CERTIFICATE]
        largest, hashed = (
            max(c["batch"] for c in certificate["comparisons"]),
            certificate["content_sha256"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} has no certificate; export it again") from error
    if type(largest) is not int or content_sha256(path, texts[CERTIFICATE]) != hashed:
        raise ArtifactError(f"{path} is not as it was certified; export it again")
    return largest


def _read_graph(path: Path) -> onnx.GraphProto:
    try:
        return onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf's own, which have no common base with OSError
        raise ArtifactError(f"{path} is not an ONNX file, or damaged: {one_line(error)}") from error


def _tensor(path: Path, entry: onnx.ValueInfoProto) -> _Tensor:
    tensor = entry.type.tensor_type
    known = {value: name for name, value in onnx.TensorProto.DataType.items()}
    kind = known.get(tensor.elem_type, "UNDEFINED")
    if not tensor.HasField("shape"):
        raise ArtifactError(f"{path}: Triton cannot serve {entry.name}: no tensor of known rank")
    if not tensor.shape.dim:
        raise ArtifactError(f"{path}: Triton cannot serve {entry.name}: it has no axis")
    if kind not in _TYPES:
        raise ArtifactError(f"{path}: Triton cannot serve {entry.name}: its type is {kind}")
    axes = (axis.dim_value or axis.dim_param for axis in tensor.shape.dim)
    return _Tensor(entry.name, _TYPES[kind], tuple(axes))


def _have_batch_axis(tensors: Sequence[_Tensor]) -> bool:
    """Check whether all have the same dynamic axis first."""
    first = {tensor.axes[0] for tensor in tensors}
    return len(first) == 1 and all(isinstance(axis, str) and axis for axis in first)


def _class_names(metadata: Mapping[str, Any]) -> list[str]:
    names = metadata["task_metadata"].get("class_names")
    return [str(name) for name in names] if isinstance(names, list) else []


def _entries(field: str, tensors: Sequence[_Tensor], named: Sequence[bool], batched: bool) -> str:
    entries = (_entry(*each, batched) for each in zip(tensors, named, strict=True))
    return f"{field} [\n" + ",\n".join(entries) + "\n]\n"


def _entry(tensor: _Tensor, named: bool, batched: bool) -> str:
    """Write one input or output; with a batch, Triton adds that axis to ``dims`` itself."""
    return "  {\n" + "\n".join(f"    {line}" for line in _lines(tensor, named, batched)) + "\n  }"


def _lines(tensor: _Tensor, named: bool, batched: bool) -> Iterator[str]:
    axes = tensor.axes[1:] if batched else tensor.axes
    dims = [axis if isinstance(axis, int) else -1 for axis in axes]
    yield f"name: {_quoted(tensor.name)}"
    yield f"data_type: {tensor.type}"
    yield f"dims: [ {', '.join(map(str, dims or [1]))} ]"
    if not dims:  # Triton takes no empty dims
        yield "reshape { shape: [ ] }"
    if named:
        yield f"label_filename: {_quoted(LABELS)}"


def _quoted(text: str) -> str:
    """Quote a text; protocol buffers and JSON escape alike."""
    return json.dumps(text, ensure_ascii=False)
