"""The data of a run: training and validation samples, and further datasets by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from visiongraft.config import FitConfig
from visiongraft.data.check import (
    CheckedSet,
    CheckedSplits,
    SampleDigests,
    are_reproducible,
    check_further,
    check_samples,
)
from visiongraft.data.findings import content_digest
from visiongraft.data.samples import EvaluationSplit, Samples, Splits
from visiongraft.errors import DataError, OptionError
from visiongraft.inputs import Inputs
from visiongraft.preparation.starting import Start
from visiongraft.task import Task
from visiongraft.task_contract.checks import bound, read_evaluation, read_splits, read_stream
from visiongraft.training.batches.loaders import TRAIN
from visiongraft.training.resuming.run_folder import DATA_CHECK, further_check
from visiongraft.training.selection.criteria import VALIDATION


@dataclass(frozen=True)
class Given:
    """What a run is given: datasets in any form that its task reads, networks, and other objects.

    Attributes:
        data: The training data.
        evaluate_on: Evaluation sets by name.
        streams: Streams by name.
        start: The model that the run continues with.
        backbone: The network to train, if one was passed.
        metrics: The user's own metrics: objects, or names with options, by name.
        augment: The user's own augmentation, if an object was passed.
    """

    data: Any
    evaluate_on: Mapping[str, Any] = field(default_factory=dict)
    streams: Mapping[str, Any] = field(default_factory=dict)
    start: Start | None = None
    backbone: nn.Module | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    augment: Any = None


@dataclass(frozen=True)
class RunData:
    """The data of a run, read and checked.

    Attributes:
        task: The task, bound to the training samples.
        unbound: The task before; it differs from the one that was asked for if the run continues with a
            model and the data have other classes.
        splits: Training and validation samples as the task read them.
        checked: The readable ones.
        evaluation: Evaluation sets by name.
        streams: Streams by name.
    """

    task: Task
    unbound: Task
    splits: Splits
    checked: CheckedSplits
    evaluation: Mapping[str, CheckedSet]
    streams: Mapping[str, CheckedSet]

    @property
    def further(self) -> dict[str, CheckedSet]:
        """The datasets beside training and validation data, by setting and name."""
        sets = {f"evaluate_on {name}": each for name, each in self.evaluation.items()}
        return {**sets, **{f"stream {name}": each for name, each in self.streams.items()}}

    @property
    def digests(self) -> dict[str, list[SampleDigests]]:
        """Digests of all readable samples by dataset."""
        further = {name: each.digests for name, each in self.further.items()}
        return {**self.checked.digests, **further}

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each issue that a user should know about before training."""
        further = [line for each in self.further.values() for line in each.warnings]
        return (*self.splits.warnings, *self.checked.report.warnings, *further)

    def image_digests(self, channels: int) -> dict[str, list[str]]:
        """Return the digests of all images that are equal if they are loaded twice.

        Args:
            channels: Number of channels to decode to.

        Returns:
            Digests by ``"train"``, ``"validation"`` and the names of evaluation sets.
        """
        digests = self.checked.digests
        parts = {
            TRAIN: (self.checked.train, digests["training"]),
            VALIDATION: (self.checked.validation, digests["validation"]),
            **{name: (each.samples, each.digests) for name, each in self.evaluation.items()},
        }
        return {
            part: [each.image for each in found]
            for part, (samples, found) in parts.items()
            if are_reproducible(samples, channels)
        }

    def are_reproducible(self, channels: int) -> bool:
        """Check whether images without files are equal if they are loaded twice."""
        further = [each.samples for each in self.further.values()]
        samples = (self.checked.train, self.checked.validation, *further)
        return all(are_reproducible(each, channels) for each in samples)


def read_run_data(
    given: Given, task: Task, config: FitConfig, folder: Path | None, save: bool
) -> RunData:
    """Read and check the data of a run.

    Args:
        given: What to read.
        task: The task.
        config: The settings of the run.
        folder: The run folder, which stores findings.
        save: Write them; otherwise they are only read.

    Returns:
        The data.

    Raises:
        DataError: A dataset is missing, malformed or empty, or has too many unreadable images.
        OptionError: There is no training data.
    """
    if given.data is None:
        raise OptionError("data is missing: pass a path, a dataset, or (training, validation)")
    try:
        splits = read_splits(task, given.data, config.held_out, config.seed)
    except DataError:
        if given.start is None:
            raise
        other = given.start.for_other_classes(given.data, config.held_out, config.seed)
        if other is None:
            raise
        task, splits = other, read_splits(other, given.data, config.held_out, config.seed)
    splits = _without(splits, config.leave_out or ())
    checked = check_samples(
        splits.train,
        splits.validation,
        channels=config.in_channels,
        cache=None if folder is None else folder / DATA_CHECK,
        save=save,
        inputs=task.inputs,
    )
    ready = bound(task, checked.train)
    further = _FurtherSets(config.in_channels, task.inputs, folder, save)
    training = checked.digests["training"]
    evaluation = {
        name: further.read("evaluation set", name, data, partial(read_evaluation, ready), training)
        for name, data in given.evaluate_on.items()
    }
    streams = {
        name: further.read("stream", name, data, partial(_read_stream, ready, name))
        for name, data in given.streams.items()
    }
    return RunData(ready, task, splits, checked, evaluation, streams)


def _without(splits: Splits, digests: Sequence[str]) -> Splits:
    """Leave out the samples whose files have some content; a warning counts what is not there."""
    if not digests:
        return splits
    parts = {"train": splits.train, "validation": splits.validation}
    contents = {part: list(_content_digests(samples)) for part, samples in parts.items()}
    kept = {part: [i for i, d in enumerate(c) if d not in digests] for part, c in contents.items()}
    if not kept["train"]:
        raise OptionError("leave_out leaves no training image")
    absent = set(digests) - set(contents["train"]) - set(contents["validation"])
    warnings = splits.warnings
    if absent:
        warnings += (
            f"leave_out: the dataset has no image of {len(absent)} of {len(digests)} digests",
        )
    return replace(
        splits,
        train=splits.train.subset(kept["train"]),
        validation=splits.validation.subset(kept["validation"]),
        warnings=warnings,
    )


def _content_digests(samples: Samples) -> Iterator[str]:
    """Yield the digest of each file; the check names those that cannot be read."""
    for index in range(len(samples)):
        try:
            content = samples.content(index)
        except OSError:
            yield ""
            continue
        if content is None:
            raise OptionError("leave_out needs images in files; leave them out of data in memory")
        yield content_digest(content)


@dataclass(frozen=True)
class _FurtherSets:
    """Reads and checks datasets beside the training data.

    Attributes:
        channels: Number of channels to decode to.
        inputs: What the samples are.
        folder: The run folder, which stores findings.
        save: Write them; otherwise they are only read.
    """

    channels: int
    inputs: Inputs
    folder: Path | None
    save: bool

    def read(
        self,
        kind: str,
        name: str,
        data: Any,
        find: Callable[[Any], EvaluationSplit],
        training: Sequence[SampleDigests] = (),
    ) -> CheckedSet:
        """Read and check one dataset.

        Args:
            kind: What it is, such as ``"stream"``.
            name: Its name.
            data: What the user passed.
            find: Finds its samples.
            training: Digests of the training images, which must not be among them.
        """
        what = f"{kind} {name!r}"
        split = _find(what, data, find)
        file = f"{kind.split()[0]}-{name}"
        checked = check_further(
            what,
            split.samples,
            training,
            channels=self.channels,
            cache=None if self.folder is None else further_check(self.folder, file),
            save=self.save,
            inputs=self.inputs,
        )
        noticed = tuple(f"{what}: {line}" for line in split.warnings)
        return replace(checked, warnings=(*noticed, *checked.warnings))


def _read_stream(task: Task, name: str, data: Any) -> EvaluationSplit:
    return EvaluationSplit(read_stream(task, name, data))


def _find(what: str, data: Any, find: Callable[[Any], EvaluationSplit]) -> EvaluationSplit:
    """Find the samples of a dataset, and name the dataset if that fails."""
    if data is None:
        raise OptionError(f"{what} is None: pass a path or a dataset")
    try:
        split = find(data)
    except DataError as error:
        raise DataError(f"{what}: {error}") from error
    if len(split.samples) == 0:
        raise DataError(f"{what} has no images")
    return split
