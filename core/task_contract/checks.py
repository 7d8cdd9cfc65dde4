"""Check tasks against their contract early, where mistakes are close to their cause."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from visiongraft.data.samples import EvaluationSplit, Samples, Splits
from visiongraft.errors import PluginError
from visiongraft.inputs import IMAGES, Inputs
from visiongraft.task import AnyTask, Task
from visiongraft.task_contract.optional import OptionalMethods

# Arguments that a method may leave out: the core passes them to those that take them.
MAY_TAKE = {"build_loss": ("backbone",), "embed_texts": ("network",)}

MISSPELLED = 0.87  # similarity above which a name is taken for a misspelling of another

# What tasks defined before version 2.0 of the plugin interface: where it is now, and in which words.
MOVED = {
    "read_labelled": ("read_evaluation", "read_evaluation()"),
    "transform_for": ("train_transform", "train_transform(preprocess)"),
    "deal_batches": ("batch_sampler", "batch_sampler()"),
    "verbs": ("model_methods", "model_methods()"),
    "at_picture_size": ("full_resolution_outputs", "full_resolution_outputs"),
    "compare": ("export_support", "ExportSupport(compare=...), returned by export_support()"),
    "rescaled": ("export_support", "ExportSupport(rescale=...), returned by export_support()"),
    "operators": ("export_support", "ExportSupport(operators=...), returned by export_support()"),
    "example_data": ("examples", "TaskExamples(make_dataset=...), returned by examples()"),
    "ideal": ("examples", "TaskExamples(ideal=...), returned by examples()"),
}


def check_task_class(kind: type[Task]) -> None:
    """Reject a task class that is valid Python but would not do what its author meant.

    Args:
        kind: The class.

    Raises:
        PluginError: The class does not follow the contract; see ``contract_faults``.
    """
    for fault in contract_faults(kind):
        raise PluginError(f"task class {kind.__name__} ({_location(kind)}) {fault}")


def contract_faults(task: Task | type[Task]) -> Iterator[str]:
    """Find where a task does not follow the contract.

    Args:
        task: The task or its class.

    Yields:
        What is wrong: a name belongs to the contract of plugin interface 1, a method is missing or
        has other parameters, a name is a misspelling of one in the contract, an annotation makes no
        option or makes one of the name, there is no ``headline``, ``better`` is not a direction, or
        ``inputs`` is no kind of input.
        Properties of a class are not evaluated.
    """
    kind = task if isinstance(task, type) else type(task)
    yield from _moved_faults(kind)
    headline = getattr(task, "headline", None)
    if not isinstance(headline, str | property) or not headline:
        yield "has no headline, the name of the metric that selects the best epoch"
    yield from _option_faults(kind)
    yield from _name_faults(kind)
    if task.better not in ("higher", "lower") and not isinstance(task.better, property):
        yield f"has better={task.better!r}, which is neither 'higher' nor 'lower'"
    yield from _input_faults(task)
    for name in _contract():
        if _overrides(kind, name) and inspect.isfunction(getattr(Task, name, None)):
            yield from _parameter_faults(kind, name)


def read_splits(task: Task, data: Any, validation: float, seed: int) -> Splits:
    """Call ``Task.read`` and check the result.

    Raises:
        PluginError: The result is not ``Splits`` of ``Samples``.
    """
    found = task.read(data, validation=validation, seed=seed)
    splits: Splits = returned(task, "read", found, Splits, "visiongraft.Splits(train, validation)")
    for split in (splits.train, splits.validation):
        returned(task, "read", split, Samples, "Splits of visiongraft.Samples")
    return splits


def read_evaluation(task: Task, data: Any) -> EvaluationSplit:
    """Call ``Task.read_evaluation`` and check the result.

    Returns:
        The result; only the samples are known if the task returns nothing else.

    Raises:
        PluginError: The result is neither ``EvaluationSplit`` nor ``Samples``.
    """
    found = task.read_evaluation(data)
    split = found if isinstance(found, EvaluationSplit) else EvaluationSplit(found)
    form = "visiongraft.Samples, alone or in visiongraft.EvaluationSplit"
    returned(task, "read_evaluation", split.samples, Samples, form)
    return split


def read_stream(task: Task, name: str, data: Any) -> Samples:
    """Call ``Task.read_stream`` and check the result.

    Raises:
        PluginError: The result is not ``Samples``.
    """
    found = task.read_stream(name, data)
    samples: Samples = returned(task, "read_stream", found, Samples, "visiongraft.Samples")
    return samples


def bound(task: AnyTask, train: Samples) -> AnyTask:
    """Call ``Task.bind`` and check the result.

    Raises:
        PluginError: The result is not a task of the same class.
    """
    form = f"{type(task).__name__}, as dataclasses.replace(self, ...) makes it"
    ready: AnyTask = returned(task, "bind", task.bind(train), type(task), form)
    return ready


def returned(task: Task, method: str, value: Any, kind: type, form: str) -> Any:
    """Return the result of a task's method after checking its type.

    Args:
        task: The task.
        method: The method's name.
        value: The result.
        kind: The type that it must have.
        form: That type in words, for the message.

    Returns:
        The result.

    Raises:
        PluginError: The result is of another type.
    """
    if isinstance(value, kind):
        return value
    owner = type(task).__name__
    raise PluginError(
        f"task {task.name!r}: {owner}.{method}() ({_location(getattr(type(task), method))}) returned "
        f"{type(value).__name__}, not {form}"
    )


def _moved_faults(kind: type[Task]) -> Iterator[str]:
    """Find what plugin interface 1 called otherwise; a new name beside an old one is enough."""
    options = {field.name for field in fields(kind)}
    for old, (new, words) in MOVED.items():
        if old not in options and _overrides(kind, old) and not _overrides(kind, new):
            yield f"defines {old!r} ({_line_of(kind, old)}), which is never used; it is now {words}"
    if _overrides(kind, "train_transform"):
        names = list(inspect.signature(kind.train_transform).parameters)
        if names[1:] == ["size"]:
            where = _line_of(kind, "train_transform")
            yield (
                f"defines train_transform(size) ({where}), which now receives the preprocessing; "
                "write train_transform(self, preprocess) and use preprocess.size"
            )


def _input_faults(task: Task | type[Task]) -> Iterator[str]:
    """Find what cannot be in ``inputs``; a property of a class is not evaluated."""
    inputs: Any = task.inputs
    maps: Any = task.full_resolution_outputs
    if isinstance(inputs, property):
        return
    if not isinstance(inputs, Inputs):
        yield f"has inputs={inputs!r}, which is not Images(), Clips() or Latents() of visiongraft.inputs"
    elif inputs != IMAGES and maps and not isinstance(maps, property):
        yield f"has full_resolution_outputs, which are maps over images, but takes {inputs.name}"


def _option_faults(kind: type[Task]) -> Iterator[str]:
    if "name" in {field.name for field in fields(kind)}:
        yield "annotates 'name', which makes an option of it; write name = '...' alone"
    for cls in kind.__mro__:
        own = inspect.get_annotations(cls) if issubclass(cls, Task) and cls is not Task else {}
        options = [name for name, note in own.items() if "ClassVar" not in str(note)]
        if options and "__dataclass_fields__" not in vars(cls):
            yield f"makes no option of {options[0]!r}; write @dataclass(frozen=True) above the class"


def _name_faults(kind: type[Task]) -> Iterator[str]:
    missing = sorted(getattr(kind, "__abstractmethods__", ()))
    for name in missing:
        near = _nearest(name, kind)
        hint = f"; rename {near!r}" if near else ""
        yield f"lacks {name}(){hint}; see visiongraft.task.Task.{name}"
    for name in _contract():
        near = _nearest(name, kind)
        if near and not _overrides(kind, name):
            yield f"has {near!r}, which is never used; rename it to {name!r}, or to '_{near}'"


def _contract() -> list[str]:
    methods = [
        name for kind in (Task, OptionalMethods) for name in vars(kind) if not name.startswith("_")
    ]
    return [*methods, "name", "headline"]


def _overrides(kind: type[Task], name: str) -> bool:
    return any(
        name in vars(cls) for cls in kind.__mro__ if issubclass(cls, Task) and cls is not Task
    )


def _nearest(name: str, kind: type[Task]) -> str | None:
    """Find an attribute defined by the plugin whose name is similar."""
    known = {*_contract(), *(field.name for field in fields(kind))}
    own = {
        n for cls in kind.__mro__ if issubclass(cls, Task) and cls is not Task for n in vars(cls)
    }
    own = {n for n in own - known if not n.startswith("_")}
    near = [n for n in sorted(own) if SequenceMatcher(None, n, name).ratio() >= MISSPELLED]
    return near[0] if near else None


def _parameter_faults(kind: type[Task], name: str) -> Iterator[str]:
    """Bind the core's arguments to the signature of a method, without calling it."""
    expected = inspect.signature(getattr(Task, name)).parameters.values()
    positional = [p.name for p in expected if p.kind is not p.KEYWORD_ONLY]
    keywords = {p.name: None for p in expected if p.kind is p.KEYWORD_ONLY}
    try:
        signature = inspect.signature(getattr(kind, name))
        positional += [each for each in MAY_TAKE.get(name, ()) if each in signature.parameters]
        signature.bind(*positional, **keywords)
    except TypeError:
        words = ", ".join([*positional[1:], *(f"{name}=..." for name in keywords)])
        yield f"has a method {name}() that does not take ({words}), as it is called"
    except ValueError:
        return  # the signature is not known


def _line_of(kind: type[Task], name: str) -> str:
    """Return the file name and line where a class or one of its bases defines a name."""
    owner = next(cls for cls in kind.__mro__ if name in vars(cls))
    try:
        lines, first = inspect.getsourcelines(owner)
    except (OSError, TypeError):
        return "made at run time"
    pattern = re.compile(rf"\s+(?:async )?(?:def )?{name}\s*[(:=]")
    number = next((i for i, line in enumerate(lines) if pattern.match(line)), 0)
    return f"{Path(inspect.getfile(owner)).name}:{first + number}"


def _location(thing: Any) -> str:
    """Return the file name and line where a class or function begins."""
    try:
        return f"{Path(inspect.getfile(thing)).name}:{inspect.getsourcelines(thing)[1]}"
    except (OSError, TypeError):
        return "made at run time"
