"""A run that is resumed: the settings that it began with, its checkpoint, and what it computes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from visiongraft.config import AUTO, FitConfig, differences
from visiongraft.errors import CheckpointError, shorten
from visiongraft.lookup.tasks import find_task
from visiongraft.module_backbone import IN_MEMORY as NETWORK_IN_MEMORY
from visiongraft.multi_task.file import read_task_file
from visiongraft.preparation.arguments import (
    check_device,
    converted,
    make_schedule,
    suitable_options,
)
from visiongraft.preparation.datasets import RunData
from visiongraft.preparation.starting import IN_MEMORY, is_weights_file
from visiongraft.registry.calls import is_task_file
from visiongraft.registry.manager import plugins
from visiongraft.schedules import Schedule, for_started_head
from visiongraft.task import Task, create_task
from visiongraft.training.batches.own_augmentation import names_function
from visiongraft.training.measuring.own_metrics import read_metrics
from visiongraft.training.resuming.checkpoint import Checkpoint
from visiongraft.training.resuming.inputs import RunInputs, inputs_on_resume
from visiongraft.training.run import Run

NAMED_DATA = ("evaluate_on", "streams")  # settings that are several datasets by name
MEASURED = ("batch_size", "schedule")  # settings that a run may have measured, and then stored


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
    if stored.weights == NETWORK_IN_MEMORY and not isinstance(given["backbone"], nn.Module):
        raise CheckpointError(
            f"run {folder} was trained on a network in memory: pass the same one again, as backbone"
        )
    called = {name: given[name] for name in defaults if given[name] is not defaults[name]}
    for name in MEASURED:
        if called.get(name) == AUTO:
            del called[name]
    called = converted(called)
    kind = _convert_task(called, stored, folder)
    if stored.metrics and called.get("metrics"):  # objects are passed again, names need not be
        called["metrics"] = {**stored.metrics, **called["metrics"]}
    schedule = _schedule(called, stored, kind)
    called["schedule"] = schedule.to_json()
    moved = _take_moved(called, stored, RunInputs.read(folder))
    other = differences(called, stored)
    if other:
        raise CheckpointError(
            f"cannot resume {folder} with different settings: {'; '.join(other)}; omit them, or "
            "start a new run"
        )
    _require_data(given, stored, folder)
    check_device(stored.device)
    return replace(stored, **moved), create_task(kind, stored.task_options), schedule


def merged(stored: Mapping[str, Any] | None, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return datasets by name as they were passed, or else their paths from the settings."""
    passed = {name: data for name, data in (given or {}).items() if data is not None}
    return {**(stored or {}), **passed}


def resumed_inputs(
    run: Run, inputs: RunInputs, checkpoint: Checkpoint | None, data: RunData, allowed: bool
) -> RunInputs:
    """Compare data, weights and code with those that the run began with; see ``inputs_on_resume``.

    Args:
        run: The run, which is given the warnings.
        inputs: What it computes from now.
        checkpoint: Where it goes on.
        data: Its data.
        allowed: Accept other samples and weights.

    Returns:
        The inputs with the changes of the run so far.
    """
    assert run.folder is not None
    comparable = data.are_reproducible(run.config.in_channels)
    epoch = checkpoint.state.epoch if checkpoint is not None else 0
    inputs, warnings = inputs_on_resume(inputs, run.folder, epoch, allowed, comparable)
    run.warnings += tuple(warnings)
    return inputs


def read_checkpoint(run: Run, folder: Path, processes: int) -> Checkpoint | None:
    """Read the last checkpoint, if there is one; otherwise the run starts from the beginning.

    Args:
        run: The run, which is given the warnings.
        folder: Its folder.
        processes: Number of processes of the run.
    """
    path = folder / "checkpoints" / "last.safetensors"
    if not path.is_file():
        run.warnings += ("the run has no checkpoint yet and starts from the beginning",)
        return None
    checkpoint = Checkpoint.read(path)
    run.warnings += checkpoint.check_processes(processes)
    return checkpoint


def _convert_task(called: dict[str, Any], stored: FitConfig, folder: Path) -> type[Task]:
    """Convert the task that is passed to settings, in place, and return the class of the run's task."""
    task = called.pop("task", None)
    if isinstance(task, str) and is_task_file(task):
        task = read_task_file(task)
    if isinstance(task, Task):
        called["task"] = plugins().name_of("task", type(task))
        called["task_options"] = task.options()
        return type(task)
    how = "fit(..., resume=True, task=MyTask()), on the command line --plugin FILE.py"
    kind = find_task(stored.task, f"run {folder}", how)
    called |= {} if task is None else {"task": task}
    if "task_options" in called:  # the others stay as they are
        options = {**stored.task_options, **called["task_options"]}
        called["task_options"] = create_task(kind, options).options()
    return kind


def _schedule(called: Mapping[str, Any], stored: FitConfig, kind: type[Task]) -> Schedule:
    """Make the schedule that is passed, or else that of the run, whose options are complete."""
    rate = called.get("learning_rate")
    if "schedule" in called:
        task = create_task(kind, called.get("task_options", stored.task_options))
        suitable = suitable_options(task, started=stored.start is not None)
        schedule = make_schedule(called["schedule"], rate, stored.adapters, suitable)
    else:
        schedule = make_schedule(stored.schedule, rate)
    completed = (for_started_head(schedule, refit) for refit in (False, True))
    return next((one for one in completed if one.to_json() == stored.schedule), schedule)


def _take_moved(
    called: dict[str, Any], stored: FitConfig, inputs: RunInputs | None
) -> dict[str, Any]:
    """Remove the paths that may differ from those of the run, as their contents are compared later.

    Args:
        called: The settings that are passed; changed in place.
        stored: Those of the run.
        inputs: What the run computed from, if it is known.

    Returns:
        The paths by setting.
    """
    if called.get("data") is None:  # in memory
        called.pop("data", None)
    recorded = {"data", *inputs.weights} if inputs is not None else set()
    if IN_MEMORY in (called.get("start"), stored.start):
        recorded -= {"start"}  # a model in memory is kept in the run folder
        if is_weights_file(called.get("start")):  # as is the one that was made of it
            del called["start"]
            called["backbone"] = stored.backbone
    names = [name for name in recorded if isinstance(called.get(name), (str, dict))]
    if inputs is not None:
        names += [n for n in NAMED_DATA if _same_names(called.get(n), getattr(stored, n))]
    return {name: called.pop(name) for name in names}


def _same_names(called: Any, stored: Mapping[str, Any] | None) -> bool:
    """Check whether datasets have the names of those of a run; their contents are compared later."""
    return isinstance(called, dict) and stored is not None and called.keys() == stored.keys()


def _require_data(given: Mapping[str, Any], stored: FitConfig, folder: Path) -> None:
    """Refuse to go on without datasets, metrics and an augmentation that were in memory."""
    passed = read_metrics(given["metrics"])
    for name, metric in (stored.metrics or {}).items():
        if metric is None and name not in passed:
            raise CheckpointError(
                f"the metric {name!r} of run {folder} was an object in memory: pass it again as metrics"
            )
    if stored.augment and not names_function(stored.augment) and given["augment"] is None:
        raise CheckpointError(
            f"run {folder} augments images by an {shorten(stored.augment)}: pass it again as augment"
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
