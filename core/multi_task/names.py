"""The names of heads, and results by head: ``kind.labels`` is what the head ``kind`` calls ``labels``."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from typing import Any, TypeVar

from visiongraft.errors import OptionError

Value = TypeVar("Value")


def check_head_name(name: object, reserved: type) -> None:
    """Check that a head can have a name.

    Args:
        name: The name.
        reserved: The class of the module that holds the heads, whose attributes are no names.

    Raises:
        OptionError: It cannot.
    """
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise OptionError(
            f"head {name!r}: a head's name is an identifier, of letters, digits and '_', such as 'kind'"
        )
    if hasattr(reserved, name):
        raise OptionError(f"head {name!r}: PyTorch's modules use this name themselves; use another")


def prefixed(head: str, values: Mapping[str, Value]) -> dict[str, Value]:
    """Return values under the names that they have beside those of other heads.

    Examples:
        >>> prefixed("kind", {"labels": 1})
        {'kind.labels': 1}
    """
    return {f"{head}.{name}": value for name, value in values.items()}


def of_head(head: str, values: Mapping[str, Value]) -> dict[str, Value]:
    """Return the values of one head under its own names.

    Examples:
        >>> of_head("kind", {"kind.labels": 1, "mask.labels": 2})
        {'labels': 1}
    """
    start = f"{head}."
    return {n.removeprefix(start): value for n, value in values.items() if n.startswith(start)}


def flat_outputs(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Join the outputs of several heads to one dict; those in dicts are named ``head.name``.

    Examples:
        >>> flat_outputs({"kind": 1, "mask": {"logits": 2}})
        {'kind': 1, 'mask.logits': 2}
    """
    found: dict[str, Any] = {}
    for head, value in outputs.items():
        found |= prefixed(head, value) if isinstance(value, Mapping) else {head: value}
    return found


def outputs_of(head: str, outputs: Mapping[str, Any]) -> Any:
    """Return the outputs of one head out of ``flat_outputs``.

    Examples:
        >>> outputs_of("mask", {"kind": 1, "mask.logits": 2})
        {'logits': 2}
    """
    return outputs[head] if head in outputs else of_head(head, outputs)
