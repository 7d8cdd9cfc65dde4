"""Compare what an exported file says about its model with a model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from visiongraft.exporters.metadata import describe_trained
from visiongraft.saving.classes import is_class

if TYPE_CHECKING:
    from visiongraft.model import TransferModel

_SHOWN = 60  # characters of a value


def compare_description(
    metadata: Mapping[str, Any], model: TransferModel
) -> tuple[list[str], list[str]]:
    """Compare all that a file says about its model.

    Args:
        metadata: The file's metadata.
        model: The model that it should have been exported from.

    Returns:
        The keys that were compared, which files of earlier versions have fewer of, and what differs.
    """
    expected = json.loads(json.dumps(describe_trained(model)))
    keys = [key for key in expected if key in metadata]
    return keys, [change for key in keys for change in _changes(key, metadata[key], expected[key])]


def _changes(key: str, found: Any, expected: Any) -> Iterator[str]:
    """Describe where one entry of the metadata differs."""
    if key == "task_class":
        if not is_class(found, expected):
            yield f"{key} is {found}, but the model's is {expected}"
    elif key == "weights_sha256":
        if found != expected:
            yield "the model has other weights than the one that was exported"
    else:
        yield from _differences(key, found, expected)


def _differences(name: str, found: Any, expected: Any) -> Iterator[str]:
    """Describe each value that differs, of JSON values of any depth."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys()):
            if key not in found or key not in expected:
                yield f"{name}.{key} is only in the {'model' if key in expected else 'file'}"
            else:
                yield from _differences(f"{name}.{key}", found[key], expected[key])
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for i, both in enumerate(zip(found, expected, strict=True)):
            yield from _differences(f"{name}[{i}]", *both)
    elif json.dumps(found) != json.dumps(expected):
        yield f"{name} is {_short(found)}, but the model's is {_short(expected)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
