"""Digests of values of any type, which are equal in every process and on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

DEEPEST = 30  # values that contain themselves end here


def digest_of(value: Any) -> str:
    """Compute a digest of a value from its content.

    Containers of the same kind, numpy and Python numbers, tensors and arrays have equal digests if
    their contents are equal. A path counts as the content of its file, if there is one. Of an object
    of an unknown class its attributes count.

    Args:
        value: A number, text, array, tensor, image, path, dataclass, container, or another object.

    Returns:
        Hexadecimal digits.

    Examples:
        >>> digest_of({"boxes": (1, 2), "name": "a"}) == digest_of({"name": "a", "boxes": [1, 2]})
        True
        >>> digest_of(1) == digest_of(2), digest_of(1) == digest_of("1")
        (False, False)
    """
    digest = hashlib.blake2b(digest_size=16)
    _feed(digest.update, value, 0)
    return digest.hexdigest()


def _feed(update: Callable[[bytes], Any], value: Any, depth: int) -> None:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        update(f"{type(value).__name__} {value!r};".encode("utf-8", "backslashreplace"))
    elif isinstance(value, Path):
        content = value.read_bytes() if value.is_file() else value.name
        _feed(update, content, depth)
    elif hasattr(value, "detach"):  # a tensor
        _feed_array(update, value.detach().cpu(), depth)
    elif isinstance(value, np.ndarray):
        _feed_array(update, value, depth)
    elif isinstance(value, PillowImage.Image):
        update(f"image {value.mode};".encode())
        _feed_array(update, np.asarray(value), depth)
    elif depth < DEEPEST:
        _feed_parts(update, value, depth + 1)


def _feed_array(update: Callable[[bytes], Any], array: Any, depth: int) -> None:
    if not isinstance(array, np.ndarray):
        array = (array.float() if str(array.dtype) == "torch.bfloat16" else array).numpy()
    if array.dtype.hasobject:
        _feed(update, array.tolist(), depth)
        return
    update(f"array {array.dtype.str} {array.shape};".encode())
    update(np.ascontiguousarray(array).tobytes())


def _feed_parts(update: Callable[[bytes], Any], value: Any, depth: int) -> None:
    if isinstance(value, Mapping):
        parts = sorted((digest_of(key), item) for key, item in value.items())
        update(f"mapping {len(parts)};".encode())
        for key, item in parts:
            update(key.encode())
            _feed(update, item, depth)
    elif isinstance(value, (set, frozenset)):
        update(f"set {sorted(map(digest_of, value))};".encode())
    elif isinstance(value, (list, tuple, range)):
        update(f"sequence {len(value)};".encode())
        for item in value:
            _feed(update, item, depth)
    else:
        update(f"object {type(value).__name__};".encode())
        _feed(update, _attributes(value), depth)


def _attributes(value: Any) -> Any:
    """Return what an object consists of; a default ``repr`` holds its address, which says nothing."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if hasattr(value, "__dict__") and not isinstance(value, type):
        return vars(value)
    text = repr(value)
    return "" if text == object.__repr__(value) else text
