"""Find pickles in files, also inside tensors and strings."""

from __future__ import annotations

import base64
import binascii
import json
import pickletools
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

ZIP = b"PK\x03\x04"  # what torch.save writes
DECODERS: tuple[Callable[[str], bytes], ...] = (
    lambda text: base64.b64decode(text, validate=True),
    bytes.fromhex,
    lambda text: text.encode("latin-1"),
)


def pickle_in(path: Path) -> str:
    """Look for a pickle in a file.

    Args:
        path: The file.

    Returns:
        Where in the file it is, for messages; empty if there is none.
    """
    content = path.read_bytes()
    if is_pickle(content):
        return "a pickle as its content"
    if path.suffix == ".safetensors":
        for name, tensor in load_file(path).items():
            if tensor.dtype in (torch.uint8, torch.int8) and is_pickle(_bytes(tensor)):
                return f"a pickle in tensor {name!r}"
    elif path.suffix in (".json", ".jsonl"):
        for line in content.decode("utf-8").splitlines() if path.suffix == ".jsonl" else [content]:
            if any(map(_holds_pickle, _texts(json.loads(line)))):
                return "a pickle written as text"
    return ""


def is_pickle(content: bytes) -> bool:
    """Check whether bytes are a pickle of protocol 2 or later, or a zip archive."""
    if content.startswith(ZIP):
        return True
    if len(content) < 4 or content[0] != 0x80:
        return False
    with suppress(Exception):  # it may raise anything
        return all(True for _ in pickletools.genops(content))
    return False


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


def _holds_pickle(text: str) -> bool:
    for decode in DECODERS:
        with suppress(ValueError, binascii.Error):
            if is_pickle(decode(text)):
                return True
    return False


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
