"""What an ONNX file declares, read without loading it and without the ``onnx`` package.

An ONNX file is one protocol buffer message. Only what decides whether the file may be loaded is
read: versions, operator domains, external data and metadata. Weights are skipped, not copied.
This must happen before onnxruntime loads the file, which opens external files and custom operators
on the way; and by hand, since the runtime does without ``onnx``, which would also copy the whole
file into memory.

No two readers may see different things in one file. So whatever protocol buffers would cut off or
decide by order is refused: numbers with more bits than their field, groups, fields of number 0, and
keys, values and versions that are given twice.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from visiongraft.errors import ArtifactError, escape_unprintable, name_some

MAX_IR_VERSION = 13  # what onnxruntime 1.31 reads
MAX_OPSET = 26
MAX_BYTES = 2**31 - 1  # of one protocol buffer message
MAX_FIELDS = 1_000_000  # large networks have 100,000; to read so many takes about a second
DOMAINS = ("", "ai.onnx")  # of operators that every onnxruntime has

# Which fields of which messages lead to nodes, tensors and versions: {message: {field: message}}.
_CHILDREN = {
    "model": {7: "graph", 8: "opset", 14: "entry", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse tensor",
        23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
_IR_VERSION, _NODE_DOMAIN, _EXTERNAL_DATA, _DATA_LOCATION = 1, 7, 13, 14
_TAG_BITS, _SIZE_BITS, _NUMBER_BITS = 32, 31, 64  # of what a varint can stand for
_EMPTY = memoryview(b"")


@dataclass
class OnnxFile:
    """What a file declares.

    Attributes:
        ir_version: Version of the file format.
        opsets: Version of each operator set, by domain; ``""`` is ONNX itself.
        domains: Domains of the operators that it really uses, in subgraphs too.
        external_data: Whether weights are in other files.
        functions: Whether it defines operators of its own.
        metadata: The texts in its ``metadata_props``.
    """

    ir_version: int = 0
    opsets: dict[str, int] = field(default_factory=dict)
    domains: set[str] = field(default_factory=set)
    external_data: bool = False
    functions: bool = False
    metadata: dict[str, str] = field(default_factory=dict)


def read_onnx(path: Path, max_bytes: int = MAX_BYTES) -> OnnxFile:
    """Read what an ONNX file declares.

    Args:
        path: The file.
        max_bytes: Largest size that is accepted.

    Returns:
        Its declarations.

    Raises:
        ArtifactError: It is missing, too large or not an ONNX file.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ArtifactError(f"{path} has {size} bytes; one ONNX file can hold {MAX_BYTES}")
    if size > max_bytes:
        raise ArtifactError(f"{path} has {size} bytes, more than max_bytes={max_bytes}")
    try:
        with open(path, "rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return parse_onnx(memoryview(content))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ArtifactError(f"{path} is not an ONNX file, or it is damaged ({error})") from None


def refuse_unsafe(path: Path, max_bytes: int = MAX_BYTES) -> OnnxFile:
    """Read what an ONNX file declares, and refuse it if it should not be loaded.

    Args:
        path: The file.
        max_bytes: Largest size that is accepted.

    Returns:
        Its declarations.

    Raises:
        ArtifactError: It is too large, or needs other files, unknown operators or a newer
            onnxruntime.
    """
    found = read_onnx(path, max_bytes)
    opset = max((found.opsets.get(domain, 0) for domain in DOMAINS), default=0)
    strange = sorted(found.domains.difference(DOMAINS))
    if found.external_data:
        raise ArtifactError(f"{path} keeps weights in other files; export it as one file")
    if strange:
        named = name_some(escape_unprintable(name) for name in strange)
        raise ArtifactError(f"{path} needs operators of {named}, which are not ONNX's")
    if found.functions:
        raise ArtifactError(f"{path} defines operators of its own; export it with ONNX's alone")
    if found.ir_version > MAX_IR_VERSION:
        raise ArtifactError(
            f"{path} has IR version {found.ir_version}; at most {MAX_IR_VERSION} is supported"
        )
    if opset > MAX_OPSET:
        raise ArtifactError(f"{path} has opset {opset}; at most {MAX_OPSET} is supported")
    return found


def parse_onnx(content: memoryview) -> OnnxFile:
    """Read the declarations out of a serialized ``ModelProto``.

    Args:
        content: The message.

    Returns:
        Its declarations.

    Raises:
        ValueError: It is not such a message.
    """
    found = OnnxFile()
    messages = [("model", content)]
    left = MAX_FIELDS
    while messages:
        kind, message = messages.pop()
        if kind in ("opset", "entry"):
            _add_pair(found, kind, message)
            continue
        children = _CHILDREN.get(kind, {})
        for number, value in _fields(message):
            left -= 1
            if not left:
                raise ValueError(f"it has more than {MAX_FIELDS} fields")
            if number in children:
                messages.append((children[number], _view(value)))
                found.functions |= children[number] == "function"
            elif kind == "model" and number == _IR_VERSION:
                found.ir_version = max(found.ir_version, _integer(value))
            elif kind == "node" and number == _NODE_DOMAIN:
                found.domains.add(_text(value))
            elif kind == "tensor" and number in (_EXTERNAL_DATA, _DATA_LOCATION):
                found.external_data |= number == _EXTERNAL_DATA or value != 0
    if not found.ir_version or not found.opsets:
        raise ValueError("it declares no version")
    return found


def _add_pair(found: OnnxFile, kind: str, message: memoryview) -> None:
    """Add a version of an operator set, or an entry of the metadata."""
    values: dict[int, int | memoryview] = {}
    for number, value in _fields(message):
        if values.setdefault(number, value) is not value:
            raise ValueError("a key or a value is given twice")
    name = _text(values.get(1, _EMPTY))
    if name in (found.opsets if kind == "opset" else found.metadata):
        raise ValueError(f"{name[:80]!r} is declared twice")
    if kind == "opset":
        found.opsets[name] = _integer(values.get(2, 0))
    else:
        found.metadata[name] = _text(values.get(2, _EMPTY))


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field: integers decoded, everything else as bytes."""
    position, end = 0, len(message)
    while position < end:
        key = message[position]
        position += 1
        if key >= 0x80:
            key, position = _varint(message, position - 1, _TAG_BITS)
        number, wire_type = key >> 3, key & 7
        if not number:
            raise ValueError("a field has the number 0")
        if wire_type == 0:
            value, position = _varint(message, position, _NUMBER_BITS)
            yield number, value
            continue
        if wire_type == 2:
            length, position = _varint(message, position, _SIZE_BITS)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"wire type {wire_type}")
        if position + length > end:
            raise ValueError("it ends too early")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int, bits: int) -> tuple[int, int]:
    """Decode one integer of at most so many bits; return it and the position after it."""
    value = 0
    for shift in range(0, bits, 7):
        if position >= len(message):
            raise ValueError("it ends too early")
        byte = message[position]
        position += 1
        if byte < 0x80 and not shift:
            return byte, position
        value |= (byte & 0x7F) << shift
        if byte < 0x80 and not value >> bits:
            return value, position
    raise ValueError(f"a number has more than {bits} bits")


def _view(value: int | memoryview) -> memoryview:
    if isinstance(value, memoryview):
        return value
    raise ValueError("a number instead of a message")


def _integer(value: int | memoryview) -> int:
    if isinstance(value, int):
        return value
    raise ValueError("text instead of a number")


def _text(value: int | memoryview) -> str:
    return str(_view(value), "utf-8")
