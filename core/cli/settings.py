"""The options of ``fit``, made from the settings that ``visiongraft.config`` defines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import Field, fields
from inspect import Parameter, Signature, signature
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import typer

from visiongraft.cli.options import (
    named_task_options,
    parse_batch_size,
    parse_bytes,
    parse_paths,
    parse_size,
    parse_validation,
)
from visiongraft.config import FitConfig

Command = TypeVar("Command", bound=Callable[..., Any])

DECLARED = ("data", "task_options")  # DATA and --set, which the command declares itself


def takes_settings(
    config: type[FitConfig] = FitConfig, without: Collection[str] = ()
) -> Callable[[Command], Command]:
    """Add one option for each setting to a command.

    Args:
        config: The class whose fields are the settings.
        without: Settings that the command does not take.

    Returns:
        A decorator for a command with ``**settings``; the help lists the options before the
        keyword-only parameters of the command.
    """

    def decorate(command: Command) -> Command:
        own = signature(command, eval_str=True).parameters.values()
        kinds = get_type_hints(config)
        others = {*DECLARED, *without}
        made = [_option(f, kinds[f.name]) for f in fields(config) if f.name not in others]
        first = [p for p in own if p.kind is Parameter.POSITIONAL_OR_KEYWORD]
        last = [p for p in own if p.kind is Parameter.KEYWORD_ONLY]
        vars(command)["__signature__"] = Signature([*first, *made, *last])
        return command

    return decorate


def given_settings(ctx: typer.Context, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the user passed, without those at their defaults."""
    given = {n: v for n, v in settings.items() if _source(ctx, n) == "COMMANDLINE"}
    paths = {n: parse_paths(NAMED_PATHS[n], v) for n, v in given.items() if n in NAMED_PATHS}
    return {**given, **paths}


def with_task_options(
    ctx: typer.Context,
    settings: Mapping[str, Any],
    task_options: Sequence[str] | None,
    **others: Any,
) -> dict[str, Any]:
    """Return the settings that the user passed, the values of ``--set`` among them.

    Args:
        ctx: The context of the command.
        settings: All of its settings.
        task_options: The values of ``--set``.
        others: Further settings that name what plugins provide.

    Returns:
        Settings by name, with ``task_options`` only if there are any.

    Raises:
        PluginError: No plugin provides what a setting names; found out before torch is imported.
        OptionError: A value of ``--set`` is wrong, or the task is not named.
    """
    from visiongraft.registry.declared import refuse_undeclared_settings

    given = given_settings(ctx, settings)
    refuse_undeclared_settings({**given, **others})
    if task_options:
        given["task_options"] = named_task_options(given.get("task"), task_options)
    return given


def setting_help(name: str) -> str:
    """Return the help text of a setting."""
    (field,) = (f for f in fields(FitConfig) if f.name == name)
    return f"{field.metadata['help']}."


def _source(ctx: typer.Context, name: str) -> str:
    source = ctx.get_parameter_source(name)
    return "" if source is None else source.name


def _option(field: Field[Any], kind: Any) -> Parameter:
    """Make the option of a setting."""
    parser, metavar = PARSERS.get(field.name, (None, None))
    named = NAMED_PATHS.get(field.name)
    declared = named or REPEATED.get(field.name)
    option = typer.Option(
        *([declared] if declared else []),
        help=f"{field.metadata['help']}{'; repeatable' if declared else ''}.",
        show_default=field.metadata["shown"] or True,
        parser=parser,
        metavar="NAME=PATH" if named else metavar,
    )
    default = field.metadata["default"]
    if parser is not None and default is not None:
        default = str(default)
    kind = list[str] | None if declared else str if parser else _option_type(kind)
    return Parameter(
        field.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


def _option_type(kind: Any) -> Any:
    """Return the type that the command line converts the text of an option to."""
    if NoneType in get_args(kind):
        (kind,) = (k for k in get_args(kind) if k is not NoneType)
    if get_origin(kind) is list:  # repeatable
        return list[str]
    return kind if kind in (bool, str, int, float) or get_origin(kind) is Literal else str


def _text_or_none(text: str) -> str | None:
    return None if text == "none" else text


def _positive_or_none(text: str) -> float | None:
    return None if text == "none" else float(text) or None


# Settings that are several datasets by name, and their options.
NAMED_PATHS = {"evaluate_on": "--evaluate-on", "streams": "--stream"}
REPEATED = {
    "adapters": "--adapter",
    "leave_out": "--leave-out",
    "metrics": "--metric",
}  # settings whose option names one of several
PARSERS: dict[str, tuple[Callable[[str], Any], str]] = {  # settings whose text needs parsing
    "weights": (_text_or_none, "<str>"),
    "budget": (str, "TIME"),
    "validation": (parse_validation, "FRACTION|nested"),
    "batch_size": (parse_batch_size, "N|auto"),
    "size": (parse_size, "N|HEIGHTxWIDTH"),
    "replay_budget": (parse_bytes, "SIZE"),
    "clip_norm": (_positive_or_none, "<float>"),
    "privacy": (str, "OPTIONS"),
}
