"""From the arguments of ``fit`` to the settings of a new run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from inspect import signature
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any

import torch
from torch import nn

from visiongraft.config import AUTO, BATCH_SIZE, EPOCHS, FitConfig, fit_defaults
from visiongraft.errors import OptionError, shorten
from visiongraft.lookup.backbones import find_source
from visiongraft.lookup.methods import (
    find_adapter,
    find_optimizer,
    find_schedule,
    find_transfer_loss,
)
from visiongraft.lookup.tasks import infer_task, place_of_task_option, requested_task
from visiongraft.model import TransferModel
from visiongraft.module_backbone import IN_MEMORY, name_of
from visiongraft.multi_task.file import read_task_file
from visiongraft.options import refuse_unknown
from visiongraft.preparation.starting import IN_MEMORY as MODEL_IN_MEMORY
from visiongraft.preparation.starting import Start, is_weights_file
from visiongraft.preprocess import as_size
from visiongraft.privacy import Privacy
from visiongraft.registry.calls import is_task_file
from visiongraft.registry.manager import plugins
from visiongraft.saving.saved_model import is_saved_model
from visiongraft.schedules import ADAPTER_OPTIONS, Schedule, with_defaults
from visiongraft.system.durations import parse_duration
from visiongraft.task import Task, create_task
from visiongraft.task_contract.checks import check_task_class
from visiongraft.training.batches.own_augmentation import OBJECT, names_function, stored_augment
from visiongraft.training.measuring.own_metrics import stored_metrics

DEFAULT_SCHEDULE = "lp_ft"
FUNCTION = "function "  # before the name of a function, in settings that may be one


def new_settings(
    given: Mapping[str, Any], start: Start | None = None
) -> tuple[FitConfig, Task, Schedule]:
    """Make the settings of a new run.

    Args:
        given: The arguments of ``fit`` by name.
        start: The model to continue with.

    Returns:
        The settings, the task and the schedule.

    Raises:
        VisiongraftError: A setting is invalid.
    """
    if start is None:
        task = _task(given["task"], given["task_options"], given["data"])
    else:
        _refuse_with_start(given)
        task = start.task
        check_task_class(type(task))
    values = converted(given)
    named = DEFAULT_SCHEDULE if given["schedule"] == AUTO else given["schedule"]
    suitable = suitable_options(task, started=start is not None)
    schedule = make_schedule(named, given["learning_rate"], values["adapters"], suitable)
    values |= {
        **_not_yet_measured(given),
        **({} if start is None else start.settings),
        "task": plugins().name_of("task", type(task)),
        "task_options": task.options(),
        "schedule": schedule.to_json(),
    }
    find_optimizer(values["optimizer"])  # before the dataset is read and checked
    if isinstance(given["backbone"], nn.Module):
        if values["weights"] == "pretrained":
            values["weights"] = IN_MEMORY
    elif not is_saved_model(values["backbone"]):
        find_source(values["backbone"])
    config = FitConfig(**{setting.name: values[setting.name] for setting in fields(FitConfig)})
    check_device(config.device)
    return config, task, schedule


def with_task_augmentation(given: Mapping[str, Any]) -> dict[str, Any]:
    """Pass ``augment`` on to the task, if it is a value of its option of this name.

    Args:
        given: The arguments of ``fit`` by name.

    Returns:
        The same, where ``augment`` is the user's own or ``None``.

    Raises:
        OptionError: The option of the task is given, too.
    """
    augment, options = given["augment"], given["task_options"] or {}
    if not isinstance(augment, str) or names_function(augment):
        return dict(given)
    if augment.startswith(OBJECT):  # of the settings of another run
        raise OptionError(f"the run augmented images by an {shorten(augment)}: pass it as augment")
    if "augment" in options:
        raise OptionError(
            f"augment={augment!r} and task_options={{'augment': {options['augment']!r}}} are the same option; pass "
            "one of them"
        )
    task = given["task"]
    if not isinstance(task, Task):
        return {**given, "augment": None, "task_options": {**options, "augment": augment}}
    refuse_unknown(f"task {task.name!r}", ["augment"], [field.name for field in fields(task)])
    changed: dict[str, Any] = {"augment": augment}
    return {**given, "augment": None, "task": replace(task, **changed)}


def suitable_options(task: Task, *, started: bool) -> dict[str, Any]:
    """Return the options of the built-in schedules that suit a run.

    Args:
        task: The task.
        started: Whether the run starts from a trained model: the rates of a task are those of new heads.

    Returns:
        ``Task.schedule_options``, without rates for a run that has no new head.
    """
    rates = {"learning_rate", "probe_learning_rate"} if started else set()
    return {name: value for name, value in task.schedule_options.items() if name not in rates}


def make_schedule(
    what: Any,
    learning_rate: float | None,
    adapters: Sequence[Mapping[str, Any]] = (),
    task_options: Mapping[str, Any] = MappingProxyType({}),
) -> Schedule:
    """Find the schedule of a run.

    Args:
        what: A name with or without options, or a schedule.
        learning_rate: Its option of this name, if it is given.
        adapters: The adapters of the run, as a config stores them.
        task_options: See ``suitable_options``.

    Returns:
        The schedule, with the options that suit the task and adapters where the user set none.

    Raises:
        PluginError: There is none of that name.
        OptionError: It has no such option.
    """
    schedule = find_schedule(what)
    if learning_rate is not None:
        schedule = schedule(learning_rate=learning_rate)
    frozen = any(find_adapter(choice).adapter.freezes_base for choice in adapters)
    return with_defaults(schedule, {**task_options, **(ADAPTER_OPTIONS if frozen else {})})


def completed_settings(
    owner: Callable[..., Any],
    data: Any,
    settings: Mapping[str, Any],
    without: Collection[str] = (),
) -> dict[str, Any]:
    """Complete settings of ``fit`` by their defaults, for a function that takes most of them.

    Args:
        owner: The function, whose own parameters a message may suggest.
        data: The dataset.
        settings: What the user passed.
        without: Settings that the function does not take.

    Returns:
        The arguments that ``new_settings`` takes.

    Raises:
        OptionError: A setting does not exist.
    """
    defaults = fit_defaults()
    taken = {*defaults, "learning_rate"} - set(without)
    own = {name for name, p in signature(owner).parameters.items() if p.kind is p.KEYWORD_ONLY}
    refuse_unknown(owner.__name__, settings, taken | own, place_of_task_option)
    return {**defaults, "learning_rate": None, **settings, "data": data}


def converted(given: Mapping[str, Any]) -> dict[str, Any]:
    """Convert arguments of ``fit`` to the form of ``FitConfig``, except for task and schedule.

    Args:
        given: Arguments by name, all or some.

    Raises:
        OptionError: An argument is of another type, or cannot be read.
        PluginError: No plugin provides what one names.
    """
    convert: dict[str, Callable[[Any], Any]] = {
        "data": _data,
        "evaluate_on": _paths,
        "streams": _paths,
        "budget": parse_duration,
        "backbone": _backbone,
        "start": _start,
        "weights": _weights,
        "size": as_size,
        "transfer_loss": _transfer_losses,
        "adapters": _adapters,
        "privacy": _privacy,
        "groups": _groups,
        "metrics": stored_metrics,
        "augment": stored_augment,
        "replay": lambda replay: {True: "on", False: "off"}.get(replay, replay),
    }
    return {n: convert[n](value) if n in convert else value for n, value in given.items()}


def _backbone(value: Any) -> str:
    if isinstance(value, nn.Module):
        return name_of(value)
    if not isinstance(value, (str, Path)):
        raise OptionError(
            f"backbone is of type {type(value).__name__}, not a name, the folder of a saved model or "
            "a network; pass one of these"
        )
    return str(value)


def _start(value: Any) -> str | None:
    if isinstance(value, TransferModel):
        return MODEL_IN_MEMORY
    return None if value is None else str(value)


def _weights(value: Any) -> str | None:
    if not isinstance(value, (str, Path, NoneType)):
        raise OptionError(
            f"weights is of type {type(value).__name__}, not 'pretrained', None or a file; save tensors to "
            "a file and pass its path"
        )
    return None if value is None else str(value)


def _not_yet_measured(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return values for settings that are not given, or are going to be measured."""
    if given["budget"] is not None and given["epochs"] is not None:
        raise OptionError(
            f"a budget chooses the number of epochs: omit epochs={given['epochs']} or the budget"
        )
    default: dict[str, Any] = {"epochs": EPOCHS} if given["epochs"] is None else {}
    if given["batch_size"] in (None, AUTO):
        default["batch_size"] = BATCH_SIZE
    return default


def _data(data: Any) -> str | dict[str, str] | None:
    """Return the path of the training data, or of those of each head; ``None`` if any is in memory."""
    if not isinstance(data, Mapping):
        return _path(data)
    paths = {str(head): path for head, own in data.items() if (path := _path(own)) is not None}
    return paths if paths and len(paths) == len(data) else None


def _path(data: Any) -> str | None:
    """Return a dataset's path; ``None`` if it is in memory."""
    return str(data) if isinstance(data, (str, Path)) else None


def _paths(sets: Mapping[str, Any] | None) -> Any:
    """Return the paths of several datasets by name; what has another form is refused later."""
    if not isinstance(sets, Mapping):
        return sets
    return {name: _path(data) for name, data in sets.items()} or None


def _transfer_losses(what: Any) -> list[dict[str, Any]]:
    """Convert no transfer loss, one, or a list of them to what a config stores."""
    if what is None:
        return []
    several = what if isinstance(what, (list, tuple)) else [what]
    return [find_transfer_loss(one).to_json() for one in several]


def _adapters(what: Any) -> list[dict[str, Any]]:
    """Convert no adapter, one, or a list of them to what a config stores."""
    several = what if isinstance(what, (list, tuple)) else [] if what is None else [what]
    return [find_adapter(one).to_json() for one in several]


def _privacy(what: Any) -> dict[str, Any] | None:
    """Convert what asks for privacy to what a config stores."""
    privacy = Privacy.read(what)
    return None if privacy is None else privacy.to_json()


def _groups(value: Any) -> str | None:
    """Return the attribute or table of groups, or the name of a function that tells them."""
    if callable(value):
        return f"{FUNCTION}{getattr(value, '__name__', type(value).__name__)}"
    if not isinstance(value, (str, Path, NoneType)):
        raise OptionError(
            f"groups is of type {type(value).__name__}, not an attribute, a .csv file or a function"
        )
    return None if value is None else str(value)


def _refuse_with_start(given: Mapping[str, Any]) -> None:
    """Refuse settings that the model to continue with determines; a weights file knows its tensors alone."""
    defaults = fit_defaults()
    of_model: tuple[str, ...] = ("weights",)
    if not is_weights_file(given["start"]):
        of_model = ("backbone", "weights", "weights_license", "in_channels")
    for name in of_model:
        if given[name] != defaults[name]:
            raise OptionError(
                f"start continues with the model's backbone; omit {name}={given[name]!r}, or pass "
                "backbone=FOLDER instead of start, to begin with a new head"
            )


def given_groups(config: FitConfig, groups: Any) -> Any:
    """Return what defines the groups of a run.

    Args:
        config: Its settings.
        groups: The argument of ``fit``, whose function the settings only name.

    Raises:
        OptionError: A run is resumed without the function.
    """
    if callable(groups) or not (config.groups or "").startswith(FUNCTION):
        return groups if callable(groups) else config.groups
    raise OptionError(f"groups of the run were told by a {config.groups}: pass it again as groups")


def check_device(device: str | None) -> None:
    """Refuse a device that this machine lacks."""
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError("device='cuda', but torch finds no CUDA device here")


def _task(task: str | Task | None, options: Mapping[str, Any] | None, data: Any) -> Task:
    if isinstance(task, str) and is_task_file(task):
        return requested_task(read_task_file(task), options)
    if task is None:
        return create_task(infer_task(data), dict(options or {}))
    return requested_task(task, options)
