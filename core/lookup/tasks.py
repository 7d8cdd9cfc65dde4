"""Find the task that a dataset is meant for, or that files on disk were made for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from visiongraft.errors import ArtifactError, DataError, OptionError, PluginError
from visiongraft.registry.manager import plugins
from visiongraft.saving.classes import class_path, is_class
from visiongraft.task import Task, create_task
from visiongraft.task_contract.checks import check_task_class

log = logging.getLogger("visiongraft")


def infer_task(data: Any) -> type[Task]:
    """Find the only installed task that claims a dataset; see ``Task.claims``.

    Args:
        data: The dataset that the user passed.

    Returns:
        The task's class.

    Raises:
        OptionError: No task claims the dataset, or several do.
        DataError: The path does not exist, or is an empty folder.
    """
    tasks = plugins().tasks()
    claiming = [] if data is None else [n for n in sorted(tasks) if _claims(tasks[n], data)]
    if len(claiming) == 1:
        return tasks[claiming[0]]
    if isinstance(data, (str, Path)) and not claiming:
        _refuse_nothing(Path(data))
    choice = f"task is missing: pass task=NAME, one of {', '.join(claiming or sorted(tasks))}"
    what = data if isinstance(data, (str, Path)) else "the data"
    if claiming:
        raise OptionError(f"{choice}; each of these reads {what}")
    reason = f"none of them claims {what}; the one that is named says what is wrong with it"
    raise OptionError(choice if data is None else f"{choice}; {reason}")


def _refuse_nothing(path: Path) -> None:
    """Say that there is nothing, rather than ask for a task."""
    if not path.exists() and ":" not in path.name:  # which names a reader
        raise DataError(f"{path} does not exist")
    if path.is_dir() and not any(path.iterdir()):
        raise DataError(f"{path} is an empty folder")


def _claims(kind: type[Task], data: Any) -> bool:
    """Check whether a task with its default options claims a dataset."""
    try:
        return create_task(kind, {}).claims(data)
    except OptionError:  # it has options without defaults
        return False
    except Exception as error:  # a third-party task may raise any error
        log.warning("task %r failed to check whether it reads the dataset: %r", kind.name, error)
        return False


def place_of_task_option(name: str, passing: str = "task_options={{{name!r}: ...}}") -> str:
    """Say how an option of a task is passed that was taken for a setting.

    Args:
        name: The option.
        passing: How it is passed, with ``{name}`` in its place; by default in Python.

    Returns:
        The installed tasks that have it, and how it is passed; empty if no task has it.
    """
    installed = plugins().tasks().items()
    tasks = sorted(task for task, kind in installed if name in {f.name for f in fields(kind)})
    return f"tasks have it ({', '.join(tasks)}): {passing.format(name=name)}" if tasks else ""


def requested_task(task: str | Task, options: Mapping[str, Any] | None) -> Task:
    """Return the task that a user asks for.

    Args:
        task: Its name, or the task itself.
        options: Its options, with a name only.

    Returns:
        The task.

    Raises:
        OptionError: It is neither, has options beside an object, or an option is invalid.
        PluginError: The name is unknown, or the class breaks the contract.
    """
    if isinstance(task, Task):
        if options:
            raise OptionError(
                "task_options require the task's name; this task is already an object"
            )
        check_task_class(type(task))
        return task
    if not isinstance(task, str):
        raise OptionError(
            f"task={task!r} is neither a name nor a task object; instantiate a task class"
        )
    kind: type[Task] = plugins().get("task", task)
    return create_task(kind, dict(options or {}))


def find_task(name: str, what: str, how: str) -> type[Task]:
    """Find the task that something on disk was made for.

    Args:
        name: The task's name.
        what: What was made for it, for the message.
        how: How to pass the task itself, for the message.

    Returns:
        The task's class.

    Raises:
        PluginError: No plugin provides it, or several do.
    """
    if plugins().provides("task", name):
        found: type[Task] = plugins().get("task", name)
        return found
    missing = plugins().missing("task", name, plugins().tasks())
    raise PluginError(
        f"{what} is for a task that no installed plugin provides ({missing}); if it is in a file "
        f"of yours, use {how}"
    )


def find_exported_task(metadata: Mapping[str, Any]) -> Task:
    """Create the task that an exported file was made for.

    Args:
        metadata: The file's metadata, with ``task``, ``task_options`` and, except in files of earlier
            versions, ``task_class``.

    Returns:
        The task.

    Raises:
        ArtifactError: The task of that name is another class.
        PluginError: No plugin provides it, or several do.
        OptionError: Its options do not fit.
    """
    name = metadata["task"]
    kind = find_task(name, "the exported file", "--plugin FILE.py")
    recorded = metadata.get("task_class")
    if recorded is not None and not is_class(recorded, class_path(kind)):
        raise ArtifactError(
            f"the exported file is of the task class {recorded}, but task {name!r} is "
            f"{class_path(kind)} here; use --plugin FILE.py with that class and --no-plugin for the "
            "other one, and train subclasses under a name of their own"
        )
    return create_task(kind, metadata["task_options"])
