"""Find what a run may name with options: schedules, optimizers, transfer losses, adapters, scorers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from visiongraft.adapters import AdapterChoice
from visiongraft.errors import OptionError, PluginError, VisiongraftError, type_and_message
from visiongraft.optimizers import OptimizerFactory, task_optimizers
from visiongraft.options import refuse_unknown
from visiongraft.registry.calls import read_call
from visiongraft.registry.manager import plugins
from visiongraft.schedules import Schedule
from visiongraft.scorers import ScorerChoice
from visiongraft.task import Task
from visiongraft.training.optimizers import RunOptimizer
from visiongraft.training.transfer_losses import TransferChoice, TransferLoss, options_of


def find_schedule(what: str | Schedule | Mapping[str, Any]) -> Schedule:
    """Find a schedule by name, with or without options.

    Args:
        what: A schedule, a name, a call such as ``"gradual(layer_decay=0.8)"``, or what
            ``Schedule.to_json`` returned.

    Returns:
        The schedule.

    Raises:
        PluginError: There is none of that name.
        OptionError: The options cannot be read, or one is unknown.

    Examples:
        >>> find_schedule("last_n(n=2)").options
        {'n': 2}
    """
    if isinstance(what, Schedule):
        return what
    if not isinstance(what, (str, Mapping)):
        raise OptionError(
            f"schedule={what!r} is neither a name nor a schedule; visiongraft.schedule makes one of "
            "a generator function"
        )
    name, options = _name_and_options(what, "schedule")
    found: Schedule = plugins().get("schedule", name)
    # Under the name that the user wrote, such as "distribution:name", it is found again on resume.
    return replace(found, name=name)(**options)


def find_optimizer(what: str) -> OptimizerFactory:
    """Find an optimizer by name, with or without options.

    Args:
        what: A name, or a call such as ``"sgd(momentum=0.8)"``.

    Returns:
        The factory.

    Raises:
        PluginError: There is none of that name.
        OptionError: The options cannot be read, or one is unknown.

    Examples:
        >>> find_optimizer("adamw(eps=1e-6)").options
        {'eps': 1e-06}
    """
    if not isinstance(what, str):
        raise OptionError(f"optimizer={what!r} is not the name of an optimizer")
    name, options = _name_and_options(what, "optimizer")
    found: OptimizerFactory = plugins().get("optimizer", name)
    return found(**options)


def find_optimizers(task: Task, default: str) -> tuple[RunOptimizer, ...]:
    """Find the optimizers that a task asks for.

    Args:
        task: The task.
        default: The optimizer of the run.

    Returns:
        At least one.

    Raises:
        PluginError: The task asks for something else than optimizers with names of their own.
        OptionError: An option is unknown.
    """
    return tuple(
        RunOptimizer(spec, find_optimizer(spec.optimizer or default)(**spec.options))
        for spec in task_optimizers(task)
    )


def find_transfer_loss(what: str | TransferChoice | Mapping[str, Any]) -> TransferChoice:
    """Find a transfer loss by name, with or without options.

    Args:
        what: A choice, a name, a call such as ``"l2_sp(alpha=0.01)"``, or what ``to_json``
            returned.

    Returns:
        The loss's class with these options.

    Raises:
        PluginError: There is none of that name.
        OptionError: The options cannot be read, or one is unknown.

    Example:
        >>> find_transfer_loss("l2_sp(alpha=0.01)").options
        {'alpha': 0.01}
    """
    if isinstance(what, TransferChoice):
        return what
    if not isinstance(what, (str, Mapping)):
        raise OptionError(f"transfer_loss={what!r} is not the name of a transfer loss")
    name, options = _name_and_options(what, "transfer loss")
    kind: type[TransferLoss] = plugins().get("loss", name)
    parameters = options_of(kind)
    refuse_unknown(f"transfer loss {name!r}", options, [p.name for p in parameters])
    for parameter in parameters:
        required = (
            parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        )
        if required and parameter.name not in options:
            raise OptionError(
                f"transfer loss {name!r} needs the option {parameter.name!r}: "
                f"{name}({parameter.name}=...)"
            )
    return TransferChoice(name, kind, options)


def find_scorer(what: str) -> ScorerChoice:
    """Make a scorer by name, with or without options.

    Args:
        what: A name, or a call such as ``"knn(k=5)"``.

    Returns:
        The scorer and its options.

    Raises:
        PluginError: There is none of that name, or it cannot be made.
        OptionError: The options cannot be read, or one is unknown or invalid.

    Example:
        >>> str(find_scorer("knn(k=5)"))
        'knn(k=5)'
    """
    if not isinstance(what, str):
        raise OptionError(f"scorer {what!r} is not a name such as 'logme', or 'knn(k=5)'")
    name, options = _name_and_options(what, "scorer")
    return ScorerChoice(name, _made("scorer", name, options), options)


def find_adapter(what: str | Mapping[str, Any]) -> AdapterChoice:
    """Make an adapter by name, with or without options.

    Args:
        what: A name, a call such as ``"lora(rank=8)"``, or what ``AdapterChoice.to_json`` returned.

    Returns:
        The adapter and its options.

    Raises:
        PluginError: There is none of that name, or it cannot be made.
        OptionError: The options cannot be read, or one is unknown or invalid.
    """
    if not isinstance(what, (str, Mapping)):
        raise OptionError(f"adapter {what!r} is not a name such as 'lora', or 'lora(rank=8)'")
    name, options = _name_and_options(what, "adapter")
    return AdapterChoice(name, _made("adapter", name, options), options)


def _name_and_options(what: str | Mapping[str, Any], kind: str) -> tuple[str, Mapping[str, Any]]:
    """Read a name with options, as a user writes it or as ``to_json`` returned it."""
    if isinstance(what, str):
        return read_call(what, kind)
    name, options = what.get("name"), what.get("options")
    if not isinstance(name, str) or not isinstance(options, Mapping) or len(what) != 2:
        raise OptionError(f"{kind} {what!r} is not a name; write options as 'NAME(OPTION=VALUE)'")
    return name, options


def _made(kind: str, name: str, options: Mapping[str, Any]) -> Any:
    """Make an object of a class that a plugin registered, with the options that a user set."""
    registered: type[Any] = plugins().get(kind, name)
    refuse_unknown(f"{kind} {name!r}", options, list(inspect.signature(registered).parameters))
    try:
        return registered(**options)
    except OptionError as error:
        raise OptionError(f"{kind} {name!r}: {error}") from error
    except VisiongraftError:
        raise
    except Exception as error:  # a third-party class may raise any error
        raise PluginError(f"{kind} {name!r} cannot be made: {type_and_message(error)}") from error
