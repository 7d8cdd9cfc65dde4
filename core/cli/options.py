"""Options that several commands share, and parsers of option values."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
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

from visiongraft.errors import OptionError
from visiongraft.options import is_integer, is_number, refuse_unknown

if TYPE_CHECKING:
    from visiongraft.task import Task

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object to standard output and nothing else.")
]
Callbacks = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="Add a callback; repeatable.")
]
Trackers = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Log to tensorboard, wandb, mlflow or trackio; repeatable.",
    ),
]
TaskOptions = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Set an option of the task; repeatable."),
]
TextEncoder = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Text encoder of MODEL, if it is not found where it was in training, as a folder that has moved.",
    ),
]
GroupedBy = Annotated[
    str,
    typer.Option(
        metavar="ATTRIBUTE|FILE.csv",
        help="What defines the groups: a further column of a table, or a file with the columns path and group.",
    ),
]
MetricNames = Annotated[
    list[str] | None,
    typer.Option(
        metavar="METRIC",
        help="A metric of torchmetrics beside the task's, such as MulticlassAUROC or "
        "auroc=MulticlassAUROC(average=none); repeatable.",
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Batch size.")]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Stop a single run of an exported file that takes longer: it may loop for ever.",
    ),
]


def parse_size(text: str) -> int | tuple[int, int]:
    """Parse an image size: ``224``, or ``192x256`` (height, then width).

    Raises:
        OptionError: The text is neither.

    Examples:
        >>> parse_size("192x256")
        (192, 256)
    """
    parts = text.lower().split("x")
    if 1 <= len(parts) <= 2 and all(p.isascii() and p.isdigit() and int(p) for p in parts):
        numbers = [int(p) for p in parts]
        return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])
    raise OptionError(
        f"--size {text}: expected pixels, such as 224, or HEIGHTxWIDTH, such as 192x256"
    )


def parse_batch_size(text: str) -> int | str:
    """Parse a batch size: an integer, or ``auto``.

    Raises:
        OptionError: The text is neither.

    Examples:
        >>> parse_batch_size("16"), parse_batch_size("auto")
        (16, 'auto')
    """
    if text == "auto":
        return text
    if text.removeprefix("-").isdecimal():
        return int(text)
    raise OptionError(f"--batch-size {text}: expected an integer or auto")


def parse_validation(text: str) -> float | str:
    """Parse a fraction, or ``nested``.

    Raises:
        OptionError: The text is neither.

    Examples:
        >>> parse_validation("0.3"), parse_validation("nested")
        (0.3, 'nested')
    """
    if text == "nested":
        return text
    try:
        return float(text)
    except ValueError:
        raise OptionError(
            f"--validation {text}: expected a fraction, such as 0.2, or nested"
        ) from None


def parse_bytes(text: str) -> int:
    """Parse an amount of disk space.

    Args:
        text: A number, optionally followed by KB, MB, GB or TB, in powers of 1000.

    Returns:
        The number of bytes.

    Raises:
        OptionError: The text is not an amount of disk space.

    Examples:
        >>> parse_bytes("1.5GB")
        1500000000
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if match is None:
        raise OptionError(
            f"--replay-budget {text}: expected an amount of disk space, such as 500MB or 4GB"
        )
    return int(float(match[1]) * 1000 ** " kmgt".index(match[2] or " "))


def parse_score_threshold(given: Sequence[str] | None) -> float | dict[str, float] | None:
    """Parse least scores: one, or one for each class as ``CLASS=SCORE``.

    Args:
        given: The values of ``--score-threshold``.

    Returns:
        A number; or numbers by class, with that of all other classes as ``"*"``.

    Raises:
        OptionError: A value is no number, or a class is named twice.

    Examples:
        >>> parse_score_threshold(["0.5"]), parse_score_threshold(["0.5", "dog=0.3"])
        (0.5, {'*': 0.5, 'dog': 0.3})
    """
    found: dict[str, float] = {}
    for text in given or ():
        name, _, score = text.rpartition("=")
        name = name or "*"
        if name in found:
            raise OptionError(f"--score-threshold {text}: {name} has a score already")
        try:
            found[name] = float(score)
        except ValueError:
            raise OptionError(f"--score-threshold {text}: expected SCORE or CLASS=SCORE") from None
    return found["*"] if found.keys() == {"*"} else found or None


def parse_paths(option: str, settings: Sequence[str]) -> dict[str, str]:
    """Parse several ``NAME=PATH``.

    Args:
        option: The option that they are values of, for the message.
        settings: The values.

    Returns:
        Paths by name.

    Raises:
        OptionError: A value is not ``NAME=PATH``, or a name appears twice.

    Examples:
        >>> parse_paths("--evaluate-on", ["old=data/old", "new=data/new"])
        {'old': 'data/old', 'new': 'data/new'}
    """
    paths: dict[str, str] = {}
    for setting in settings:
        name, equals, path = setting.partition("=")
        if not (name and equals and path):
            raise OptionError(f"{option} {setting}: expected NAME=PATH")
        if name in paths:
            raise OptionError(f"{option} {setting}: {name!r} appears twice")
        paths[name] = path
    return paths


def parse_task_options(kind: type[Task], settings: Sequence[str]) -> dict[str, Any]:
    """Parse ``name=value`` settings by the types of the task's fields.

    Args:
        kind: The task class.
        settings: The values of ``--set``.

    Returns:
        Values by option name.

    Raises:
        OptionError: A setting is not ``name=value``, is unknown, or has the wrong type.
    """
    hints = get_type_hints(kind)
    known = {field.name: hints[field.name] for field in fields(kind)}
    values = {}
    for name, text in _pairs(settings):
        refuse_unknown(f"--set {name}={text}: task {kind.name!r}", [name], known)
        values[name] = parse_value(text, known[name], f"--set {name}={text}")
    return values


def named_task_options(task: str | None, settings: Sequence[str]) -> dict[str, Any]:
    """Parse the values of ``--set`` for a task that is given by name.

    Raises:
        OptionError: It is not given, or a setting is wrong, see ``parse_task_options``.
        PluginError: There is no such task.
    """
    if task is None:
        raise OptionError("--set sets an option of a task; name the task with --task NAME")
    from visiongraft.registry.manager import plugins

    return parse_task_options(plugins().get("task", task), settings)


def check_suffix(option: str, path: Path, suffixes: Sequence[str], or_else: str = "") -> None:
    """Check the path of a file to write, before anything is computed.

    Args:
        option: The option that it is a value of, for the message.
        path: The path.
        suffixes: Those that are possible.
        or_else: What else the option takes, for the message.

    Raises:
        OptionError: It has another suffix, or is a folder.
    """
    if path.suffix.lower() not in suffixes or path.is_dir():
        kinds, more = " or ".join(suffixes), f"; or pass {or_else}" if or_else else ""
        raise OptionError(
            f"--{option} {path} is not a path of a file with the suffix {kinds}{more}"
        )


def refuse_input(option: str, path: Path | None, inputs: Iterable[object]) -> None:
    """Refuse to write over a file that is read, before anything is computed.

    Args:
        option: The option that the path is a value of, for the message.
        path: The file to write, if any.
        inputs: What is read; what is no path of a file is left alone.

    Raises:
        OptionError: The path is one of the inputs.
    """
    if path is None or not path.is_file():
        return
    for one in inputs:
        given = Path(one) if isinstance(one, (str, Path)) else None
        if given is not None and given.is_file() and given.samefile(path):
            raise OptionError(f"--{option} {path} would overwrite an input; pass another path")


def check_folder(option: str, path: Path) -> None:
    """Check the path of a folder to write to, before anything is computed.

    Raises:
        OptionError: There is a file.
    """
    if path.exists() and not path.is_dir():
        raise OptionError(f"--{option} {path} is a file; pass a folder")


def parse_pairs(settings: Sequence[str]) -> dict[str, Any]:
    """Parse ``name=value`` settings of unknown types: as JSON, otherwise as text.

    Args:
        settings: The values of ``--set``.

    Returns:
        Values by name.

    Raises:
        OptionError: A setting is not ``name=value``.

    Examples:
        >>> parse_pairs(["size=[224, 224]", "mode=fast"])
        {'size': [224, 224], 'mode': 'fast'}
    """
    return {name: _literal(text) for name, text in _pairs(settings)}


def _pairs(settings: Sequence[str]) -> Iterator[tuple[str, str]]:
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise OptionError(f"--set {setting}: expected NAME=VALUE")
        yield name.strip().replace("-", "_"), text.strip()


def parse_value(text: str, expected: Any, what: str) -> Any:
    """Parse a value as JSON if that fits the type, otherwise as text or a comma-separated list.

    Args:
        text: What the user wrote.
        expected: The type of the option.
        what: What the error message calls the option.

    Returns:
        The value; a list if a tuple is expected.

    Raises:
        OptionError: The value does not fit the type.
    """
    for candidate in (_literal(text), text, [_literal(part.strip()) for part in text.split(",")]):
        if _fits(candidate, expected):
            return candidate
    raise OptionError(f"{what}: expected {describe_type(expected)}")


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def _fits(value: Any, expected: Any) -> bool:
    origin, inner = get_origin(expected), get_args(expected)
    if expected is Any:
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
    if origin is not None or not isinstance(expected, type):
        return isinstance(value, origin) if isinstance(origin, type) else False
    if expected is float:
        return is_number(value, finite=False)
    if expected is int:
        return is_integer(value)
    return isinstance(value, type(None) if expected is None else expected)


def describe_type(expected: Any) -> str:
    """Describe a type to users.

    Examples:
        >>> describe_type(tuple[str, ...] | None), describe_type(Literal["linear", "mlp"])
        ('list of str or none', 'linear or mlp')
    """
    origin, inner = get_origin(expected), get_args(expected)
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(option) for option in inner)
    if origin is Literal:
        return " or ".join(str(option) for option in inner)
    if origin in (tuple, list):
        return f"list of {describe_type(inner[0])}"
    if expected is type(None):
        return "none"
    names = {float: "number", int: "integer", bool: "true or false", dict: "JSON object"}
    return names.get(origin or expected, getattr(expected, "__name__", str(expected)))
