"""Checks of a task's class, its data, augmentation and batches; nothing is trained."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from visiongraft.data.loader import SampleDataset, Unreadable, augmentable
from visiongraft.data.samples import Samples
from visiongraft.errors import DataError
from visiongraft.inputs import IMAGES, Inputs
from visiongraft.model import TransferModel
from visiongraft.seeds import seeded
from visiongraft.task import Task, create_task
from visiongraft.task_contract.checks import contract_faults, read_evaluation
from visiongraft.testing.equality import same
from visiongraft.testing.report import Attempt, Checks, Fault, NotTried, expect, refusing, trying
from visiongraft.testing.tasks.trial import SIZE, TaskTrial
from visiongraft.testing.trials import is_identifier, strange_data

check = Checks(TaskTrial.of)


@check("task.Task")
def declares_itself(trial: TaskTrial) -> None:
    """The class follows the contract, and names task, headline and model methods properly."""
    kind = type(trial.task)
    for fault in contract_faults(trial.task):
        raise Fault(
            "to inspect the task class", f"one that {fault}", "a class as Task describes it"
        )
    expect(is_identifier(kind.name), "to read the task's name", repr(kind.name), "an identifier")
    reading = Attempt(
        "to read the task's model methods",
        "functions whose names are not attributes of TransferModel",
        "task.Task.model_methods",
    )
    for name, function in trial.task.model_methods().items():
        free = name.isidentifier() and not hasattr(TransferModel, name)
        reading.expect(callable(function) and free, f"{name!r}: {function!r}")


@check("task.Task.examples")
def examples_are_read(trial: TaskTrial) -> None:
    """The example dataset is read twice with the same result, and no validation image is trained on."""
    splits, again = trial.example.splits, trial.task.read(trial.example.data)
    for part in ("train", "validation"):
        samples: Samples = getattr(splits, part)
        expect(len(samples) > 0, f"to read the {part} split", "no image", "at least one")
        expect_same_samples(samples, getattr(again, part), part, "task.Task.read")
        expect_sample(samples, part, trial.channels, trial.task.inputs)
    expect_validation(splits.train, splits.validation, trial.channels)
    with trying("to write the dataset's facts as JSON", see="data.samples.Splits"):
        json.dumps(splits.facts, allow_nan=False)


@check("task.Task.options")
def options_survive_json(trial: TaskTrial) -> None:
    """The options of a bound task survive being written as JSON and read again."""
    bound = trial.example.task
    binding = Attempt("to bind the task to its training images", see="task.Task.bind")
    kind, expected = type(bound), type(trial.task)
    binding.expect(kind is expected, kind.__name__, expected.__name__)
    with trying("to write the bound task's options as JSON"):
        text = json.dumps(bound.options(), allow_nan=False)
    with trying("to make the task again of its options", see="task.create_task"):
        again = create_task(kind, json.loads(text))
    expect(again == bound, "to make the task again of its options", again, repr(bound))
    metadata = bound.metadata()
    with trying("to write the task's metadata as JSON", see="task.Task.metadata") as writing:
        written = json.loads(json.dumps(metadata, allow_nan=False))
    writing.expect(written == metadata, written, f"the same after reading: {metadata}")


@check("task.Task.read_evaluation")
def targets_keep_their_meaning(trial: TaskTrial) -> None:
    """An image has the same target for training and for evaluation of the bound task."""
    example = trial.example
    if trial.task.inputs.drawn:
        raise NotTried(
            f"{trial.task.inputs.name} are drawn, so that targets belong to none of them"
        )
    if trial.task.targets_in_common:
        raise NotTried("targets are of all images together")
    for task, when in ((example.task, "bound task"), (_reloaded(example.task), "reloaded task")):
        read: dict[str, list[Any]] = {}
        for name, target in named_targets(read_evaluation(task, example.data).samples):
            read.setdefault(name, []).append(target)  # several samples may be of one image
        trained = named_targets(example.splits.train) + named_targets(example.splits.validation)
        shared = [(name, target) for name, target in trained if name in read]
        if not shared:
            raise NotTried("read and read_evaluation share no image of the example dataset")
        reading = Attempt(f"to read the example dataset with read_evaluation of the {when}")
        for name, target in shared:
            equal = any(same(target, other) for other in read[name])
            got = f"target {read[name][0]!r} for {Path(name).name}"
            reading.expect(equal, got, f"{target!r}, as when it was read to train on")


@check("task.Task.read")
def bad_data_raises_a_clear_error(trial: TaskTrial) -> None:
    """Missing data, and data of an unknown format, raise a DataError with a one-line message."""
    folder = trial.folder("bad")
    (folder / "noise.csv").write_text("neither,this\nnor,that\n", encoding="utf-8")
    bad = {**strange_data(folder), "a table with unknown columns": folder / "noise.csv"}
    for method in (trial.task.read, trial.example.task.read_evaluation):
        for what, data in bad.items():
            words = f"{method.__name__} of {what}"
            with refusing(DataError, words, "a DataError that explains the problem"):
                method(data)


@check("task.Task.train_transform")
def data_can_be_sent_to_workers(trial: TaskTrial) -> None:
    """Samples, augmentation and collate function can be pickled for worker processes."""
    task = trial.example.task
    parts = {
        "the training samples": (trial.example.splits.train, "data.samples.Samples"),
        "the validation samples": (trial.example.splits.validation, "data.samples.Samples"),
        "the result of train_transform": (task.train_transform(trial.preprocess()), None),
        "collate": (task.collate, "task.Task.collate"),
        "a target": (trial.example.splits.train.target(0), "task.Task.read"),
    }
    for what, (value, see) in parts.items():
        expected = "an object that can be pickled, such as an instance of a module-level class"
        with trying(f"to pickle {what} for a worker process", expected, see):
            pickle.loads(pickle.dumps(value))


@check("task.Task.train_transform")
def augmentation_is_seeded(trial: TaskTrial) -> None:
    """Augmented images have the required size, and are identical for equal seeds."""
    task, size = trial.example.task, (SIZE, SIZE + 16)
    transform = task.train_transform(trial.preprocess(size))
    if transform is None:
        raise NotTried("the task does not augment")
    preprocess = trial.network(size).preprocess_on_cpu()
    dataset = SampleDataset(trial.example.splits.train, preprocess, transform)
    for index in range(len(dataset)):  # of few images chance could make all alike
        item, again = dataset[index, 1], dataset[index, 1]
        for one in (item, again):
            if isinstance(one, Unreadable):
                words = f"to augment an image to {size[0]}x{size[1]} pixels"
                raise Fault(words, one.reason, "an image of that size, and its target")
        words = "to augment an image twice with the same seed"
        expected = "equal results: all randomness must come from torch, numpy or random"
        expect(same(item, again), words, "different results", expected)


@check("task.Task.train_transform")
def augmentation_keeps_the_range(trial: TaskTrial) -> None:
    """Augmented images have values in 0..255, as images without augmentation have."""
    transform = trial.example.task.train_transform(trial.preprocess())
    if transform is None:
        raise NotTried("the task does not augment")
    samples, before, after = trial.example.splits.train, [], []
    for index in range(len(samples)):
        pixels = torch.from_numpy(samples.load(index, trial.channels))
        with seeded(0, index), trying("to augment an image"):
            image, _ = transform(augmentable(pixels), samples.target(index))
        before.append(pixels.float().flatten())
        after.append(torch.as_tensor(image).as_subclass(torch.Tensor).float().flatten())
    given, found = torch.cat(before), torch.cat(after)
    # Smooth resizing overshoots; normalizing, or dividing by 255, changes the mean by far more.
    expect(
        bool(-64 <= found.min() and found.max() <= 319 and found.mean() >= 0.1 * given.mean()),
        f"to augment {len(samples)} images",
        f"values from {found.min():.4g} to {found.max():.4g} of mean {found.mean():.4g}",
        f"values in 0..255 of a mean near {given.mean():.4g}: visiongraft normalizes the images afterwards",
    )


@check("task.Task.collate")
def any_number_of_targets_can_be_collated(trial: TaskTrial) -> None:
    """Targets of one image and of several can be collated, with the same result each time."""
    task, samples = trial.example.task, trial.example.splits.train
    targets = [samples.target(i) for i in range(len(samples))]
    for count in (len(targets), 1):
        with trying(f"to collate {count} targets"):
            one, other = task.collate(targets[:count]), task.collate(targets[:count])
        words = f"to collate {count} targets twice"
        expect(same(one, other), words, "different results", "equal results")
        hidden = [leaf for leaf in pytree.tree_leaves(one) if _holds_tensors(leaf)]
        expect(
            not hidden,
            f"to find the tensors in a batch of {count} targets",
            f"tensors inside a {type(hidden[0]).__name__ if hidden else ''}",
            "tensors, or tuples, lists and dicts of them: other containers are not moved to the "
            "device of the images",
        )


def expect_same_samples(one: Samples, other: Samples, part: str, see: str) -> None:
    """Raise a fault unless a split that was read twice has the same samples in the same order."""
    first, second = named_targets(one), named_targets(other)
    reading = Attempt(f"to read the {part} split twice", see=see)
    reading.expect(
        [name for name, _ in first] == [name for name, _ in second],
        "other images, or another order, the second time",
        "the same images in the same order, as a resumed run requires",
    )
    for (name, target), (_, again) in zip(first, second, strict=True):
        got = f"target {again!r} for {Path(name).name}"
        reading.expect(same(target, again), got, f"{target!r}, as the first time")


def expect_sample(samples: Samples, part: str, channels: int, inputs: Inputs = IMAGES) -> None:
    """Raise a fault unless the first sample of a split can be loaded, as grayscale too if it is RGB."""
    for count in (channels, 1) if channels == 3 else (channels,):
        words = f"to load an image of the {part} split with {count} channels"
        with trying(words, see="data.samples.Samples.load") as loading:
            image = samples.load(0, count)
        got = f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}"
        shape = ", ".join(map(str, inputs.shape("N", count, "height", "width")[1:]))
        expected = f"a numpy array {inputs.dtype} ({shape})"
        loading.expect(inputs.is_sample(image, count), got, expected)


def expect_validation(train: Samples, validation: Samples, channels: int) -> None:
    """Raise a fault if a training image is among the validation images."""
    expected = "validation images that are not trained on"
    reading = Attempt("to read the example dataset", expected, "task.Task.read")
    positions = {train.name(i): i for i in range(len(train))}
    for i in range(len(validation)):
        position = positions.get(validation.name(i))
        if position is None or not same(train.target(position), validation.target(i)):
            continue  # names may be indices, which two splits may share
        differ = not same(train.load(position, channels), validation.load(i, channels))
        got = f"{Path(validation.name(i)).name} in both the training and the validation split"
        reading.expect(differ, got)


def named_targets(samples: Samples) -> list[tuple[str, Any]]:
    """Return name and target of each sample."""
    return [(samples.name(i), samples.target(i)) for i in range(len(samples))]


def _holds_tensors(leaf: Any) -> bool:
    return not isinstance(leaf, torch.Tensor) and any(
        isinstance(value, torch.Tensor)
        for value in pytree.tree_leaves(dict(getattr(leaf, "__dict__", {})))
    )


def _reloaded(task: Task) -> Task:
    return create_task(type(task), json.loads(json.dumps(task.options())))


DATA_CHECKS = tuple(check)
