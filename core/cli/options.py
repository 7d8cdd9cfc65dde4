"""Command-line words that several commands share, and values that are more than a word."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import typer

from visiongraft.errors import OptionError, near_matches
from visiongraft.options import is_integer, is_number

if TYPE_CHECKING:
    from visiongraft.task import Task

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images at a time.")]


def parse_size(text: str) -> int | tuple[int, int]:
    """Read ``224`` or ``192x256`` (height, then width).

    Raises:
        OptionError: It is neither.

    Examples:
        >>> parse_size("192x256")
        (192, 256)
    """
    parts = text.lower().split("x")
    if 1 <= len(parts) <= 2 and all(p.isascii() and p.isdigit() and int(p) for p in parts):
        numbers = [int(p) for p in parts]
        return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])
    raise OptionError(f"--size {text}: it takes pixels such as 224, or HEIGHTxWIDTH as in 192x256")


def parse_bytes(text: str) -> int:
    """Read an amount of disk space.

    Args:
        text: A number with or without KB, MB, GB or TB, in powers of 1000.

    Returns:
        Bytes.

    Raises:
        OptionError: It is none.

    Examples:
        >>> parse_bytes("1.5GB")
        1500000000
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if match is None:
        raise OptionError(f"--replay-budget {text}: it takes bytes, such as 500MB or 4GB")
    return int(float(match[1]) * 1000 ** " kmgt".index(match[2] or " "))


def parse_task_options(kind: type[Task], settings: Sequence[str]) -> dict[str, Any]:
    """Read ``name=value`` words by the types of the task's fields.

    Args:
        kind: The task.
        settings: What stood behind each ``--set``.

    Returns:
        Values by option name.

    Raises:
        OptionError: One is no ``name=value``, unknown, or of another type.
    """
    hints = get_type_hints(kind)
    known = {field.name: hints[field.name] for field in fields(kind)}
    values = {}
    for name, text in _pairs(settings):
        if name not in known:
            raise OptionError(
                f"--set {name}={text}: task {kind.name!r} has no option {name!r}"
                f"{near_matches(name, known)}"
            )
        values[name] = parse_value(text, known[name], f"--set {name}={text}: {name}")
    return values


def parse_pairs(settings: Sequence[str]) -> dict[str, Any]:
    """Read ``name=value`` words where no types are known: JSON, else text.

    Args:
        settings: What stood behind each ``--set``.

    Returns:
        Values by name.

    Raises:
        OptionError: One is no ``name=value``.

    Examples:
        >>> parse_pairs(["size=[224, 224]", "mode=fast"])
        {'size': [224, 224], 'mode': 'fast'}
    """
    return {name: _literal(text) for name, text in _pairs(settings)}


def _pairs(settings: Sequence[str]) -> Iterator[tuple[str, str]]:
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise OptionError(f"--set {setting}: it takes NAME=VALUE")
        yield name.strip().replace("-", "_"), text.strip()


def parse_value(text: str, wanted: Any, what: str) -> Any:
    """Read a value as JSON if that fits the type, else as the bare text, else as a list of them.

    Args:
        text: What the user wrote.
        wanted: The type of the option.
        what: The option, as the error names it.

    Returns:
        The value; a list where a tuple is wanted.

    Raises:
        OptionError: It is of another type.
    """
    for candidate in (_literal(text), text, [_literal(part.strip()) for part in text.split(",")]):
        if _fits(candidate, wanted):
            return candidate
    raise OptionError(f"{what} takes {describe_type(wanted)}")


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def _fits(value: Any, wanted: Any) -> bool:
    origin, inner = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in inner)
    if origin is Literal:
        return value in inner
    if origin in (tuple, list):
        if not isinstance(value, list):
            return False
        each = inner[:1] * len(value) if origin is list or inner[-1] is Ellipsis else inner
        return len(value) == len(each) and all(map(_fits, value, each))
    if origin is not None or not isinstance(wanted, type):
        return isinstance(value, origin) if isinstance(origin, type) else False
    if wanted is float:
        return is_number(value, finite=False)
    if wanted is int:
        return is_integer(value)
    return isinstance(value, type(None) if wanted is None else wanted)


def describe_type(wanted: Any) -> str:
    """Write a type as users read it.

    Examples:
        >>> describe_type(tuple[str, ...] | None), describe_type(Literal["linear", "mlp"])
        ('list of str or none', 'linear or mlp')
    """
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(option) for option in inner)
    if origin is Literal:
        return " or ".join(str(option) for option in inner)
    if origin in (tuple, list):
        return f"list of {describe_type(inner[0])}"
    if wanted is type(None):
        return "none"
    names = {float: "number", int: "whole number", bool: "true or false", dict: "JSON object"}
    return names.get(origin or wanted, getattr(wanted, "__name__", str(wanted)))
