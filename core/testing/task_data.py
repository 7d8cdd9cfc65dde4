"""Checks of what a task says of itself, reads and hands on; nothing is trained."""

from __future__ import annotations

import json
import pickle
from dataclasses import fields
from inspect import get_annotations
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from visiongraft.data.loader import SampleDataset, Unreadable
from visiongraft.data.samples import Samples
from visiongraft.errors import VisiongraftError
from visiongraft.model import TransferModel
from visiongraft.task import Task, create_task
from visiongraft.testing.report import Fault, NotTried, checks_of, expect, trying
from visiongraft.testing.trial import SIZE, TaskTrial, same

check = checks_of(TaskTrial.of)


@check("task.Task")
def declares_itself(trial: TaskTrial) -> None:
    """The task says its name, headline, what is better and its verbs; it is a frozen dataclass."""
    kind = type(trial.task)
    expect(
        isinstance(kind.name, str) and kind.name.replace("-", "_").isidentifier(),
        "to read the task's name",
        repr(kind.name),
        "a plain word",
    )
    known = {field.name for field in fields(kind)}
    lost = [n for n, a in get_annotations(kind).items() if "ClassVar" not in str(a)]
    lost = [name for name in lost if name not in known]
    expect(
        not lost,
        "to look at the task's options",
        f"{', '.join(lost)}, which no option is made of",
        f"@dataclass(frozen=True) on {kind.__name__}",
    )
    word = trial.task.better
    expect(word in ("higher", "lower"), "to read 'better'", repr(word), "'higher' or 'lower'")
    for verb, function in trial.task.verbs().items():
        expect(
            callable(function) and verb.isidentifier() and not hasattr(TransferModel, verb),
            "to read the task's verbs",
            f"{verb!r}: {function!r}",
            "functions under names that no model has already",
            "task.Task.verbs",
        )


@check("task.Task.example_data")
def example_data_are_read(trial: TaskTrial) -> None:
    """The example data are read, twice alike, into training and validation pictures."""
    splits, again = trial.example.splits, trial.task.read(trial.example.data)
    for part in ("train", "validation"):
        samples: Samples = getattr(splits, part)
        expect(len(samples) > 0, f"to read the {part} part", "no picture", "at least one")
        first, second = targets_by_name(samples), targets_by_name(getattr(again, part))
        expect(
            first.keys() == second.keys(),
            f"to read the {part} part twice with one seed",
            "other pictures the second time",
            "the same pictures",
            "task.Task.read",
        )
        _expect_same_targets(first, second, f"to read the {part} part twice", "task.Task.read")
        image = samples.load(0)
        expect(
            image.ndim == 3 and image.shape[2] == 3 and str(image.dtype) == "uint8",
            f"to load a picture of the {part} part",
            f"{image.dtype} {image.shape}",
            "uint8 (height, width, 3)",
            "data.samples.Samples.load",
        )
    with trying("to write the facts of the data as JSON", see="data.samples.Splits"):
        json.dumps(splits.facts, allow_nan=False)


@check("task.Task.options")
def options_survive_json(trial: TaskTrial) -> None:
    """A bound task written as JSON and read again is the same task."""
    bound = trial.example.task
    expect(
        type(bound) is type(trial.task),
        "to bind the task to its training pictures",
        type(bound).__name__,
        type(trial.task).__name__,
        "task.Task.bind",
    )
    with trying("to write the bound task's options as JSON"):
        text = json.dumps(bound.options(), allow_nan=False)
    with trying("to make the task again of its options", see="task.create_task"):
        again = create_task(type(bound), json.loads(text))
    expect(again == bound, "to make the task again of its options", again, repr(bound))
    metadata = bound.metadata()
    with trying("to write the task's metadata as JSON", see="task.Task.metadata"):
        written = json.loads(json.dumps(metadata, allow_nan=False))
    expect(
        written == metadata,
        "to write the task's metadata as JSON",
        written,
        f"the same after reading: {metadata}",
        "task.Task.metadata",
    )


@check("task.Task.read_labelled")
def targets_keep_their_meaning(trial: TaskTrial) -> None:
    """A picture has the same target for training and for evaluation of the bound task."""
    example = trial.example
    for task, when in ((example.task, "bound task"), (_reloaded(example.task), "reloaded task")):
        read = targets_by_name(task.read_labelled(example.data))
        trained = targets_by_name(example.splits.train) | targets_by_name(example.splits.validation)
        shared = {n: t for n, t in trained.items() if n in read}
        if not shared:
            raise NotTried("read and read_labelled share no picture of the example data")
        _expect_same_targets(
            shared, read, f"to read the example data with read_labelled of the {when}"
        )


@check("task.Task.read")
def bad_data_are_refused_in_words(trial: TaskTrial) -> None:
    """Data that are missing or of no known form raise a DataError of one line."""
    folder = trial.folder("bad")
    (folder / "empty").mkdir()
    (folder / "noise.bin").write_bytes(bytes(range(256)))
    (folder / "noise.csv").write_text("neither,this\nnor,that\n", encoding="utf-8")
    bad = {
        "a path that does not exist": folder / "nowhere",
        "an empty folder": folder / "empty",
        "a file of noise": folder / "noise.bin",
        "a table with other columns": folder / "noise.csv",
        "a number": 7,
        "None": None,
        "an empty list": [],
    }
    for method in (trial.task.read, trial.example.task.read_labelled):
        for what, data in bad.items():
            _expect_refusal(method, data, f"{method.__name__} of {what}")


def _expect_refusal(method: Any, data: Any, what: str) -> None:
    expected = "a DataError that says what is wrong"
    try:
        with trying(what, expected):
            method(data)
    except Fault as fault:
        cause = fault.__cause__
        if not isinstance(cause, VisiongraftError):
            raise
        text = str(cause)
        expect(bool(text.strip()) and "\n" not in text, what, repr(text), "a message of one line")
        return
    raise Fault(what, "no error", expected)


@check("task.Task.train_transform")
def data_travel_to_workers(trial: TaskTrial) -> None:
    """Samples, augmentation and collate can be sent to worker processes."""
    task = trial.example.task
    parts = {
        "the training samples": (trial.example.splits.train, "data.samples.Samples"),
        "what train_transform gives": (task.train_transform((SIZE, SIZE)), None),
        "collate": (task.collate, "task.Task.collate"),
        "a target": (trial.example.splits.train.target(0), "task.Task.read"),
    }
    for what, (value, see) in parts.items():
        expected = "something that pickles, such as an object of a class at the top of a module"
        with trying(f"to pickle {what} for a worker process", expected, see):
            pickle.loads(pickle.dumps(value))


@check("task.Task.train_transform")
def augmentation_is_seeded(trial: TaskTrial) -> None:
    """Augmentation gives the size that was asked for, and the same again for the same seed."""
    task, size = trial.example.task, (SIZE, SIZE + 16)
    transform = task.train_transform(size)
    if transform is None:
        raise NotTried("the task does not augment")
    preprocess = trial.network(size).preprocess_on_cpu()
    dataset = SampleDataset(trial.example.splits.train, preprocess, transform)
    for index in range(min(len(dataset), 4)):
        item, again = dataset[index, 1], dataset[index, 1]
        if isinstance(item, Unreadable) or isinstance(again, Unreadable):
            raise Fault(
                f"to augment a picture to {size[0]}x{size[1]} pixels",
                str(item),
                "an image of that size and its target",
            )
        expect(
            same(tuple(item), tuple(again)),
            "to augment one picture twice with one seed",
            "two different results",
            "equal ones: randomness from torch, numpy or random only",
        )


@check("task.Task.collate")
def targets_of_any_number_collate(trial: TaskTrial) -> None:
    """Targets of one picture and of several make a batch, alike each time."""
    task, samples = trial.example.task, trial.example.splits.train
    targets = [samples.target(i) for i in range(len(samples))]
    for count in (len(targets), 1):
        with trying(f"to collate {count} targets"):
            one, other = task.collate(targets[:count]), task.collate(targets[:count])
        expect(
            same(one, other), f"to collate {count} targets twice", "different results", "equal ones"
        )
    tensors = [t for t in pytree.tree_leaves(one) if isinstance(t, torch.Tensor)]
    expect(
        not any(t.is_floating_point() and not t.isfinite().all() for t in tensors),
        "to collate targets",
        "numbers that are not finite",
        "finite ones",
    )


def targets_by_name(samples: Samples) -> dict[str, Any]:
    """Give the target of each sample by its name."""
    return {samples.name(i): samples.target(i) for i in range(len(samples))}


def _reloaded(task: Task) -> Task:
    return create_task(type(task), json.loads(json.dumps(task.options())))


def _expect_same_targets(
    first: dict[str, Any], second: dict[str, Any], tried: str, see: str | None = None
) -> None:
    for name, target in first.items():
        expect(
            same(target, second[name]),
            tried,
            f"target {second[name]!r} for {Path(name).name}",
            f"{target!r}, as when it was read to train on",
            see,
        )


DATA_CHECKS = (
    declares_itself,
    example_data_are_read,
    options_survive_json,
    targets_keep_their_meaning,
    bad_data_are_refused_in_words,
    data_travel_to_workers,
    augmentation_is_seeded,
    targets_of_any_number_collate,
)
