"""From the arguments of ``fit`` to the settings of a run, new or resumed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import NoneType
from typing import Any

import torch

from visiongraft.config import AUTO, BATCH_SIZE, EPOCHS, FitConfig, differences
from visiongraft.errors import CheckpointError, OptionError
from visiongraft.lookup.backbones import find_source
from visiongraft.lookup.methods import (
    find_adapter,
    find_optimizer,
    find_schedule,
    find_transfer_loss,
)
from visiongraft.lookup.tasks import find_task
from visiongraft.model import TransferModel
from visiongraft.multi_task.file import read_task_file
from visiongraft.options import refuse_unknown
from visiongraft.preparation.starting import IN_MEMORY, Start
from visiongraft.preprocess import as_size
from visiongraft.registry.calls import is_task_file
from visiongraft.registry.manager import plugins
from visiongraft.saving.saved_model import is_saved_model
from visiongraft.schedules import Schedule, for_adapters, for_started_head
from visiongraft.system.durations import parse_duration
from visiongraft.task import Task, create_task
from visiongraft.task_contract.checks import check_task_class
from visiongraft.training.resuming.inputs import RunInputs

DEFAULT_SCHEDULE = "lp_ft"
NAMED_DATA = ("evaluate_on", "streams")  # settings that are several datasets by name


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
        task = _task(given["task"], given["task_options"])
    else:
        _refuse_with_start(given)
        task = start.task
        check_task_class(type(task))
    converted = _converted(given)
    named = DEFAULT_SCHEDULE if given["schedule"] == AUTO else given["schedule"]
    schedule = make_schedule(named, given["learning_rate"], converted["adapters"])
    values = {
        **converted,
        **_not_yet_measured(given),
        **({} if start is None else start.settings),
        "task": plugins().name_of("task", type(task)),
        "task_options": task.options(),
        "schedule": schedule.to_json(),
    }
    find_optimizer(values["optimizer"])  # before the dataset is read and checked
    if not is_saved_model(values["backbone"]):
        find_source(values["backbone"])
    config = FitConfig(**{setting.name: values[setting.name] for setting in fields(FitConfig)})
    _check_device(config.device)
    return config, task, schedule


def make_schedule(
    what: Any, learning_rate: float | None, adapters: Sequence[Mapping[str, Any]]
) -> Schedule:
    """Find the schedule of a run.

    Args:
        what: A name with or without options, or a schedule.
        learning_rate: Its option of this name, if it is given.
        adapters: The adapters of the run, as a config stores them.

    Returns:
        The schedule, with the options that adapters need.

    Raises:
        PluginError: There is none of that name.
        OptionError: It has no such option.
    """
    schedule = find_schedule(what)
    if learning_rate is not None:
        schedule = schedule(learning_rate=learning_rate)
    frozen = any(find_adapter(choice).adapter.freezes_base for choice in adapters)
    return for_adapters(schedule) if frozen else schedule


def completed_settings(
    owner: str, data: Any, settings: Mapping[str, Any], without: Collection[str] = ()
) -> dict[str, Any]:
    """Complete settings of ``fit`` by their defaults, for a function that takes most of them.

    Args:
        owner: The function, for the message.
        data: The dataset.
        settings: What the user passed.
        without: Settings that the function does not take.

    Returns:
        The arguments that ``new_settings`` takes.

    Raises:
        OptionError: A setting does not exist.
    """
    defaults = {field.name: field.metadata["default"] for field in fields(FitConfig)}
    refuse_unknown(owner, settings, [*(defaults.keys() - set(without)), "learning_rate"])
    return {**defaults, "learning_rate": None, **settings, "data": data}


def resumed_settings(
    folder: Path | None, given: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[FitConfig, Task, Schedule]:
    """Read the settings of a run, and refuse to resume it with different ones.

    Paths of data and weights may differ from those of the run: their contents are compared later.

    Args:
        folder: The run folder.
        given: The arguments of ``fit`` by name.
        defaults: The default of each argument; arguments at their defaults are not compared.

    Returns:
        The settings, the task and the schedule.

    Raises:
        VisiongraftError: There is no run, or an argument differs from its settings.
    """
    if folder is None:
        raise CheckpointError("resume=True requires out=FOLDER, the run to continue")
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} contains no run to resume; start one without resume=True")
    stored = FitConfig.read(folder)
    called = {name: given[name] for name in defaults if given[name] is not defaults[name]}
    task = called.pop("task", None)
    if isinstance(task, str) and is_task_file(task):
        task = read_task_file(task)
    if called.get("batch_size") == AUTO:  # the run has the number that was measured
        del called["batch_size"]
    if called.get("schedule") == AUTO:
        del called["schedule"]
    called = _converted(called)
    if isinstance(task, Task):
        called["task"] = plugins().name_of("task", type(task))
        called["task_options"] = task.options()
        kind: type[Task] = type(task)
    else:
        how = "fit(..., resume=True, task=MyTask()), on the command line --plugin FILE.py"
        kind = find_task(stored.task, f"run {folder}", how)
        called |= {} if task is None else {"task": task}
        if "task_options" in called:  # the others stay as they are
            options = {**stored.task_options, **called["task_options"]}
            called["task_options"] = create_task(kind, options).options()
    beside = stored.adapters if "schedule" in called else []  # what is stored is complete
    plan = make_schedule(
        called.get("schedule", stored.schedule), called.get("learning_rate"), beside
    )
    if for_started_head(plan).to_json() == stored.schedule:  # what is stored is complete
        plan = for_started_head(plan)
    called["schedule"] = plan.to_json()
    if called.get("data") is None:  # in memory
        called.pop("data", None)
    inputs = RunInputs.read(folder)
    recorded = {"data", *inputs.weights} if inputs is not None else set()
    if IN_MEMORY in (called.get("start"), stored.start):
        recorded -= {"start"}  # a model in memory is kept in the run folder
    moved = {
        name: called.pop(name) for name in recorded if isinstance(called.get(name), (str, dict))
    }
    if inputs is not None:
        named = [
            name for name in NAMED_DATA if _same_names(called.get(name), getattr(stored, name))
        ]
        moved |= {name: called.pop(name) for name in named}
    other = differences(called, stored)
    if other:
        raise CheckpointError(
            f"cannot resume {folder} with different settings: {'; '.join(other)}; omit them, or "
            "start a new run"
        )
    if stored.data is None and given["data"] is None:
        raise CheckpointError(
            f"run {folder} was trained on data in memory: pass the same data again"
        )
    for name in NAMED_DATA:
        sets, again = getattr(stored, name) or {}, given[name] or {}
        missing = [one for one, path in sets.items() if path is None and one not in again]
        if missing:
            raise CheckpointError(
                f"{name}={missing[0]!r} of run {folder} was in memory: pass the same data again"
            )
    _check_device(stored.device)
    return replace(stored, **moved), create_task(kind, stored.task_options), plan


def merged(stored: Mapping[str, Any] | None, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return datasets by name as they were passed, or else their paths from the settings."""
    passed = {name: data for name, data in (given or {}).items() if data is not None}
    return {**(stored or {}), **passed}


def _same_names(called: Any, stored: Mapping[str, Any] | None) -> bool:
    """Check whether datasets have the names of those of a run; their contents are compared later."""
    return isinstance(called, dict) and stored is not None and called.keys() == stored.keys()


def _converted(given: Mapping[str, Any]) -> dict[str, Any]:
    """Convert arguments of ``fit`` to the form of ``FitConfig``, except for task and schedule."""
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
        "replay": lambda replay: {True: "on", False: "off"}.get(replay, replay),
    }
    return {n: convert[n](value) if n in convert else value for n, value in given.items()}


def _backbone(value: Any) -> str:
    if not isinstance(value, (str, Path)):
        raise OptionError(
            f"backbone is of type {type(value).__name__}, not a name or the folder of a saved model; "
            "save a model and pass its folder, or provide a network of your own by a plugin"
        )
    return str(value)


def _start(value: Any) -> str | None:
    if isinstance(value, TransferModel):
        return IN_MEMORY
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
    return {**default, **({"batch_size": BATCH_SIZE} if given["batch_size"] == AUTO else {})}


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


def _refuse_with_start(given: Mapping[str, Any]) -> None:
    """Refuse settings that the model to continue with determines."""
    defaults = {field.name: field.metadata["default"] for field in fields(FitConfig)}
    for name in ("backbone", "weights", "in_channels"):
        if given[name] != defaults[name]:
            raise OptionError(
                f"start continues with the model's backbone; omit {name}={given[name]!r}, or pass "
                "backbone=FOLDER instead of start, to begin with a new head"
            )


def _check_device(device: str | None) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError("device='cuda', but torch finds no CUDA device here")


def _task(task: str | Task | None, options: Mapping[str, Any] | None) -> Task:
    if isinstance(task, Task):
        if options:
            raise OptionError(
                "task_options require the task's name; this task is already an object"
            )
        check_task_class(type(task))
        return task
    if isinstance(task, str) and is_task_file(task):
        return _task(read_task_file(task), options)
    names = sorted(plugins().tasks())
    if task is None:
        raise OptionError(f"task is missing: pass task=NAME, one of {', '.join(names)}")
    if not isinstance(task, str):
        raise OptionError(
            f"task={task!r} is neither a name nor a task object; instantiate a task class"
        )
    kind: type[Task] = plugins().get("task", task)
    return create_task(kind, dict(options or {}))
