"""The data of a run: training and validation samples, and further datasets by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from visiongraft.config import FitConfig
from visiongraft.data.check import (
    CheckedSet,
    CheckedSplits,
    SampleDigests,
    are_reproducible,
    check_further,
    check_samples,
)
from visiongraft.data.samples import EvaluationSplit, Splits
from visiongraft.errors import DataError, OptionError
from visiongraft.preparation.starting import Start
from visiongraft.task import Task
from visiongraft.task_contract.checks import bound, read_evaluation, read_splits, read_stream
from visiongraft.training.batches.loaders import TRAIN
from visiongraft.training.resuming.run_folder import DATA_CHECK, further_check
from visiongraft.training.selection.criteria import VALIDATION


@dataclass(frozen=True)
class Given:
    """The datasets that a run is given, in any form that its task reads.

    Attributes:
        data: The training data.
        evaluate_on: Evaluation sets by name.
        streams: Streams by name.
        start: The model that the run continues with, whose classes they must have.
    """

    data: Any
    evaluate_on: Mapping[str, Any] = field(default_factory=dict)
    streams: Mapping[str, Any] = field(default_factory=dict)
    start: Start | None = None


@dataclass(frozen=True)
class RunData:
    """The data of a run, read and checked.

    Attributes:
        task: The task, bound to the training samples.
        splits: Training and validation samples as the task read them.
        checked: The readable ones.
        evaluation: Evaluation sets by name.
        streams: Streams by name.
    """

    task: Task
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
        splits = read_splits(task, given.data, config.validation, config.seed)
    except DataError as error:
        if given.start is not None:
            given.start.explain(error, given.data, config.validation, config.seed)
        raise
    channels = config.in_channels
    checked = check_samples(
        splits.train,
        splits.validation,
        channels=channels,
        cache=None if folder is None else folder / DATA_CHECK,
        save=save,
        inputs=task.inputs,
    )
    ready = bound(task, checked.train)

    training = checked.digests["training"]

    def read(
        what: str,
        sets: Mapping[str, Any],
        find: Callable[[str, Any], EvaluationSplit],
        unlike: bool,
    ) -> dict[str, CheckedSet]:
        found = {}
        for name, data in sets.items():
            split = _find(f"{what} {name!r}", data, partial(find, name))
            checked = check_further(
                f"{what} {name!r}",
                split.samples,
                training if unlike else (),
                channels=channels,
                cache=None
                if folder is None
                else further_check(folder, f"{what.split()[0]}-{name}"),
                save=save,
                inputs=task.inputs,
            )
            noticed = tuple(f"{what} {name!r}: {line}" for line in split.warnings)
            found[name] = replace(checked, warnings=(*noticed, *checked.warnings))
        return found

    evaluation = read(
        "evaluation set", given.evaluate_on, lambda _, data: read_evaluation(ready, data), True
    )
    streams = read(
        "stream",
        given.streams,
        lambda name, data: EvaluationSplit(read_stream(ready, name, data)),
        False,
    )
    return RunData(ready, splits, checked, evaluation, streams)


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
