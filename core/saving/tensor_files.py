"""Safetensors files with a checksum, written atomically."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from visiongraft.errors import ArtifactError
from visiongraft.saving.files import write_bytes

CHECKSUM = "crc32"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON values into one safetensors file with a checksum, atomically.

    Args:
        path: Where to.
        tensors: By name; tensors that share memory are written separately.
        metadata: JSON values by name.
    """
    independent = {n: t.detach().to("cpu", copy=True).contiguous() for n, t in tensors.items()}
    texts = {k: json.dumps(v) for k, v in metadata.items()}
    texts[CHECKSUM] = _checksum(independent, texts)
    write_bytes(path, _with_sorted_header(save(independent, texts)))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``write_tensors`` wrote, and verify its checksum if it has one.

    Args:
        path: The file.

    Returns:
        Tensors by name and JSON values by name.

    Raises:
        ArtifactError: It is missing or damaged.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            texts = file.metadata() or {}
        checksum = texts.pop(CHECKSUM, None)
        if checksum not in (None, _checksum(tensors, texts)):
            raise ArtifactError(f"{path} is damaged: its content does not match its checksum")
        return tensors, {k: json.loads(v) for k, v in texts.items()}
    except (safetensors.SafetensorError, ValueError, OSError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged or not a safetensors file: {error}") from error


def has_checksum(path: Path) -> bool:
    """Check whether a file that ``read_tensors`` could read has a checksum, which it then matched."""
    with safetensors.safe_open(path, framework="pt") as file:
        return CHECKSUM in (file.metadata() or {})


def _with_sorted_header(content: bytes) -> bytes:
    """Order the metadata in a safetensors file, so that equal contents are equal bytes."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned
    return b"".join([len(text).to_bytes(8, "little"), text, memoryview(content)[end:]])


def _checksum(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> str:
    """Compute a checksum of names, types, shapes and contents: quick, and any changed bit changes it."""
    value = 0
    for name in sorted(texts):
        value = zlib.crc32(json.dumps([name, texts[name]]).encode(), value)
    for name in sorted(tensors):
        tensor = tensors[name]
        head = json.dumps([name, str(tensor.dtype), list(tensor.shape)])
        value = zlib.crc32(head.encode(), value)
        if tensor.numel():  # a tensor without elements may have strides that cannot be viewed
            value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"
