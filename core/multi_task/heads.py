"""The heads of a task: which tasks they are, and what lets them share a backbone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from visiongraft.backbone import Backbone, Features
from visiongraft.errors import OptionError, name_some
from visiongraft.inputs import IMAGES
from visiongraft.multi_task.names import check_head_name, flat_outputs
from visiongraft.optimizers import task_optimizers
from visiongraft.registry.calls import read_call
from visiongraft.registry.manager import plugins
from visiongraft.task import Task, create_task
from visiongraft.task_contract.checks import check_task_class


class MultiHead(nn.ModuleDict):
    """The heads on the same features, by name.

    Args:
        heads: The task of each head.
        backbone: What they are built for.
    """

    def __init__(self, heads: Mapping[str, Task], backbone: Backbone) -> None:
        super().__init__({name: task.build_head(backbone) for name, task in heads.items()})

    def forward(
        self, features: Features, computed: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the outputs of all heads in one dict, see ``flat_outputs``.

        Args:
            features: The features of the backbone.
            computed: Outputs by head, if a training step has computed them already.
        """
        if computed is None:
            computed = {name: head(features) for name, head in self.items()}
        return flat_outputs(computed)


def read_heads(heads: Any) -> dict[str, Task]:
    """Make the tasks of the heads.

    Args:
        heads: By name, or as pairs, each a task, a name with or without options such as
            ``"segmentation(decoder='fpn')"``, or a dict of ``task`` and ``options``.

    Returns:
        The tasks by name.

    Raises:
        OptionError: A name or an option is invalid, or the tasks cannot be combined.
        PluginError: There is no such task.
    """
    found: dict[str, Task] = {}
    for name, what in _pairs(heads):
        check_head_name(name, nn.ModuleDict)
        if name in found:
            raise OptionError(f"head {name!r} is named twice; each head has a name of its own")
        found[name] = _task(name, what)
    if not found:
        raise OptionError("heads is empty: name at least one head and its task")
    for name, task in found.items():
        _refuse_alone(name, task)
    for name, task in found.items():
        if task.inputs != IMAGES:
            raise OptionError(
                f"head {name!r}: heads share images, but {task.name!r} takes {task.inputs.name}"
            )
    for option in ("resize", "input_size"):
        _refuse_conflict(option, found)
    return found


def head_options(task: Task) -> dict[str, Any]:
    """Return what ``read_heads`` makes the same task of, as JSON values."""
    return {"task": plugins().name_of("task", type(task)), "options": task.options()}


def _pairs(heads: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(heads, Mapping):
        return heads.items()
    pairs = list(heads) if isinstance(heads, list | tuple) else None
    if pairs is None or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise OptionError(
            f"heads={heads!r} is not a dict from names to tasks, such as {{'kind': 'classification'}}"
        )
    return pairs


def _task(name: str, what: Any) -> Task:
    if isinstance(what, Task):
        check_task_class(type(what))
        kind = plugins().tasks().get(what.name)
        if kind is not None and plugins().name_of("task", type(what)) == what.name:
            _refuse_namesake(name, what, kind)
        return what
    if isinstance(what, str):
        called, options = read_call(what, f"head {name!r}: task")
    elif isinstance(what, Mapping) and what.keys() <= {"task", "options"} and "task" in what:
        called, options = str(what["task"]), dict(what.get("options") or {})
    else:
        raise OptionError(
            f"head {name!r}: {what!r} is neither a task, nor a name such as 'classification(hidden=64)'"
        )
    found: type[Task] = plugins().get("task", called)
    return create_task(found, options)


def _refuse_namesake(name: str, task: Task, kind: type[Task]) -> None:
    """Refuse a class that a saved model would be loaded without."""
    if type(task) is not kind:
        raise OptionError(
            f"head {name!r}: {type(task).__name__} has the name of another task, {task.name!r}; a saved "
            "model would be loaded with that one, so use a name of its own"
        )


def _refuse_alone(name: str, task: Task) -> None:
    """Refuse a task that has to train alone."""
    specs = task_optimizers(task)
    if len(specs) > 1 or task.optimizers():
        names = ", ".join(repr(spec.name) for spec in specs)
        raise OptionError(
            f"head {name!r}: task {task.name!r} needs optimizers of its own ({names}) and cannot be combined "
            "with others"
        )
    rates = task.learning_rates()
    if rates:
        raise OptionError(
            f"head {name!r}: task {task.name!r} has learning rates of its own (of {name_some(rates)}) and cannot "
            "be combined with others"
        )
    if isinstance(getattr(task, "heads", None), Mapping):
        raise OptionError(
            f"head {name!r}: {task.name!r} has heads itself; list all heads in one task"
        )


def _refuse_conflict(option: str, heads: Mapping[str, Task]) -> None:
    """Refuse demands on the images that cannot all be met."""
    asked = {name: getattr(task, option) for name, task in heads.items()}
    asked = {name: value for name, value in asked.items() if value is not None}
    if len(set(asked.values())) > 1:
        words = " and ".join(f"{name!r} needs {option}={value!r}" for name, value in asked.items())
        raise OptionError(f"heads share their images, but {words}")
