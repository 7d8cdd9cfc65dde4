"""Checks of tensors out of files: their kind, their claimed size, and their values."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

ALWAYS = 64 << 20  # bytes that any file may unpack to
RATIO = 4  # of unpacked to packed bytes; weights are noise, which hardly shrinks


def most_bytes(path: Path) -> int:
    """Return how many bytes the contents of a file may take in memory."""
    return max(ALWAYS, RATIO * path.stat().st_size)


def unpacked_bytes(path: Path) -> int:
    """Return the bytes that a zip archive says it unpacks to; 0 if the file is none."""
    if not zipfile.is_zipfile(path):
        return 0
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(record.file_size for record in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, RuntimeError):
        return 0  # what reads it next refuses it


def unusable(tensors: Mapping[str, Tensor], most: int) -> Iterator[str]:
    """Find tensors that are not plain, dense values.

    Args:
        tensors: Tensors by name.
        most: Bytes that one of them may take.

    Yields:
        One line for each such tensor.
    """
    for name, tensor in tensors.items():
        kind = _odd_kind(tensor)
        if kind:
            yield f"tensor {name!r} is {kind}, not plain dense values"
        elif tensor.numel() * tensor.element_size() > most:
            yield f"tensor {name!r} states the shape {tuple(tensor.shape)}, which the file cannot hold"


def _odd_kind(tensor: Tensor) -> str:
    if tensor.is_nested:
        return "nested"
    if tensor.is_quantized:
        return f"quantized ({str(tensor.dtype).removeprefix('torch.')})"
    if tensor.layout != torch.strided:
        return f"sparse ({str(tensor.layout).removeprefix('torch.')})"
    if tensor.is_meta:
        return "a meta tensor, without values"
    if type(tensor) not in (Tensor, nn.Parameter, nn.Buffer):
        return f"of type {type(tensor).__name__}"
    return ""


def damaged(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Iterator[str]:
    """Find tensors whose values cannot be those of a network.

    Args:
        tensors: Tensors by name.
        own: Those that they replace in the network; infinite values that these have are accepted, such
            as those of attention masks.

    Yields:
        One line for each such tensor.
    """
    for name, tensor in tensors.items():
        mine = own[name]
        if not mine.is_floating_point():
            continue
        if not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            yield f"tensor {name!r} has values of type {kind}, not floating-point weights"
            continue
        odd = ~tensor.to(mine.dtype).isfinite()
        if bool((odd & mine.isfinite()).any()):
            yield f"tensor {name!r} contains {int(odd.sum())} values that are not finite"
        elif name.endswith("running_var") and bool((tensor < 0).any()):
            yield f"tensor {name!r} contains negative variances"


def first(faults: Iterable[str]) -> str:
    """Summarize faults in one line; empty if there are none."""
    found = list(faults)
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return found[0] + more if found else ""
