"""Holds a task to its contract at once, where a fault would else surface far from its cause."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import fields
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from visiongraft.data.samples import Samples, Splits
from visiongraft.errors import PluginError
from visiongraft.task import AnyTask, Task

MISSPELT = 0.87  # likeness from which a name is taken for another one, misspelled


def check_task_class(kind: type[Task]) -> None:
    """Refuse a task class that Python accepts and that would not do what its author meant.

    Args:
        kind: The class.

    Raises:
        PluginError: A method is missing or takes other arguments, a name is nearly that of something
            in the contract, an annotation makes an option of nothing or of the name, or ``better`` is
            no direction.
    """
    for fault in _faults(kind):
        raise PluginError(f"task class {kind.__name__} ({_place(kind)}) {fault}")


def read_splits(task: Task, data: Any, validation: float, seed: int) -> Splits:
    """Let a task read data to train on; see ``Task.read``.

    Raises:
        PluginError: It returned something else than splits.
    """
    found = task.read(data, validation=validation, seed=seed)
    splits: Splits = returned(task, "read", found, Splits, "visiongraft.Splits(train, validation)")
    for part in (splits.train, splits.validation):
        returned(task, "read", part, Samples, "Splits of visiongraft.Samples")
    return splits


def read_labeled(task: Task, data: Any) -> Samples:
    """Let a task read data to evaluate on; see ``Task.read_labeled``.

    Raises:
        PluginError: It returned something else than samples.
    """
    found = task.read_labeled(data)
    samples: Samples = returned(task, "read_labeled", found, Samples, "visiongraft.Samples")
    return samples


def bound(task: AnyTask, train: Samples) -> AnyTask:
    """Let a task remember what it must know of its training data; see ``Task.bind``.

    Raises:
        PluginError: It returned something else than a task of its kind.
    """
    form = f"{type(task).__name__}, as dataclasses.replace(self, ...) makes it"
    ready: AnyTask = returned(task, "bind", task.bind(train), type(task), form)
    return ready


def returned(task: Task, method: str, value: Any, kind: type, form: str) -> Any:
    """Give what a task's method returned, if it is of the kind that it should be.

    Args:
        task: The task.
        method: The method's name.
        value: What it returned.
        kind: What that should be.
        form: The same in words.

    Returns:
        The value.

    Raises:
        PluginError: It is something else.
    """
    if isinstance(value, kind):
        return value
    owner = type(task).__name__
    raise PluginError(
        f"task {task.name!r}: {owner}.{method}() ({_place(getattr(type(task), method))}) returned "
        f"{type(value).__name__}, not {form}"
    )


def _faults(kind: type[Task]) -> Iterator[str]:
    if "name" in {field.name for field in fields(kind)}:
        yield "annotates 'name', which makes an option of it; write name = '...' alone"
    for cls in kind.__mro__:
        own = inspect.get_annotations(cls) if issubclass(cls, Task) and cls is not Task else {}
        options = [name for name, note in own.items() if "ClassVar" not in str(note)]
        if options and "__dataclass_fields__" not in vars(cls):
            yield f"makes no option of {options[0]!r}; write @dataclass(frozen=True) above the class"
    missing = sorted(getattr(kind, "__abstractmethods__", ()))
    for name in missing:
        near = _nearest(name, kind)
        hint = f"; rename {near!r}" if near else ""
        yield f"lacks {name}(){hint}; see visiongraft.task.Task.{name}"
    for name in _contract():
        near = _nearest(name, kind)
        if near and not _overrides(kind, name):
            yield f"has {near!r}, which nothing reads; rename it to {name!r}, or to '_{near}'"
    if kind.better not in ("higher", "lower"):
        yield f"has better={kind.better!r}, which is neither 'higher' nor 'lower'"
    for name in _contract():
        if _overrides(kind, name) and inspect.isfunction(getattr(Task, name, None)):
            yield from _other_arguments(kind, name)


def _contract() -> list[str]:
    methods = [name for name in vars(Task) if not name.startswith("_")]
    return [*methods, "name", "headline"]


def _overrides(kind: type[Task], name: str) -> bool:
    return any(
        name in vars(cls) for cls in kind.__mro__ if issubclass(cls, Task) and cls is not Task
    )


def _nearest(name: str, kind: type[Task]) -> str | None:
    """Find an attribute of the class's own that is nearly called so."""
    known = {*_contract(), *(field.name for field in fields(kind))}
    own = {
        n for cls in kind.__mro__ if issubclass(cls, Task) and cls is not Task for n in vars(cls)
    }
    own = {n for n in own - known if not n.startswith("_")}
    near = [n for n in sorted(own) if SequenceMatcher(None, n, name).ratio() >= MISSPELT]
    return near[0] if near else None


def _other_arguments(kind: type[Task], name: str) -> Iterator[str]:
    """Call, on paper, a method as the core calls it."""
    wanted = inspect.signature(getattr(Task, name)).parameters.values()
    positional = [p.name for p in wanted if p.kind is not p.KEYWORD_ONLY]
    keywords = {p.name: None for p in wanted if p.kind is p.KEYWORD_ONLY}
    try:
        inspect.signature(getattr(kind, name)).bind(*positional, **keywords)
    except TypeError:
        words = ", ".join([*positional[1:], *(f"{name}=..." for name in keywords)])
        yield f"has a method {name}() that does not take ({words}), as it is called"
    except ValueError:
        return  # nothing is known of what it takes


def _place(thing: Any) -> str:
    """Name the file and line where a class or function begins."""
    try:
        return f"{Path(inspect.getfile(thing)).name}:{inspect.getsourcelines(thing)[1]}"
    except (OSError, TypeError):
        return "made at run time"
