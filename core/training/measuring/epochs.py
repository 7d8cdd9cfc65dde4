"""What a run measures before training and after each epoch, on all processes together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from accelerate import Accelerator
from accelerate.utils import gather_object

from visiongraft.config import NESTED
from visiongraft.data.batch import Batch
from visiongraft.data.groups import SMALL
from visiongraft.data.loader import ordered_batches, shard
from visiongraft.errors import TrainingError
from visiongraft.system.progress import images_in, track
from visiongraft.task import Task
from visiongraft.training.batches.loaders import ImageLoaders
from visiongraft.training.evaluation import decode_batches, measure, measure_groups, scalars
from visiongraft.training.measuring.margins import Groups, margins_of, measure_without_groups
from visiongraft.training.measuring.nested import Folds, measure_folds
from visiongraft.training.measuring.target_metrics import measure_target
from visiongraft.training.measuring.validation_loss import ValidationLoss
from visiongraft.training.run import Run
from visiongraft.training.selection.criteria import VALIDATION, Condition, Results
from visiongraft.training.transfer.adapting import TargetImages

KEPT_BYTES = 256 * 2**20  # of the images of one part


class EvaluationBatches(Protocol):
    """Where the batches of evaluations come from."""

    def evaluation(self, part: str, plan: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """Load the images of a part to evaluate."""


@dataclass(frozen=True)
class Measured:
    """The metrics of some weights.

    Attributes:
        validation: All results on the validation images.
        others: Metrics of the evaluation sets, and of streams without labels, by name.
        margins: How far values must be from the thresholds of the conditions, with a confidence.
        alpha: Weight of the trained weights, if they were interpolated with those of the beginning.
        loss: Loss parts on the validation images, and their sum; empty if the task has none there.
        folds: The headline without and of each fold of the validation images, with nested validation.
    """

    validation: dict[str, Any]
    others: dict[str, dict[str, float]]
    margins: Mapping[Condition, float] = field(default_factory=dict)
    alpha: float | None = None
    loss: dict[str, float] = field(default_factory=dict)
    folds: Folds = field(default_factory=list)

    @property
    def metrics(self) -> Results:
        """Metrics by dataset, validation included."""
        return {VALIDATION: scalars(self.validation), **self.others}


@dataclass(frozen=True)
class Evaluated:
    """What was measured on a part.

    Attributes:
        results: All results.
        groups: Its metrics without each group of images, if it is compared with a confidence.
        folds: The headline without and of each fold, of validation images with nested validation.
    """

    results: dict[str, Any]
    groups: dict[str, list[float]] = field(default_factory=dict)
    folds: Folds = field(default_factory=list)


@dataclass
class LoadedOnce:
    """Evaluation batches that are loaded once for several passes, if they fit into memory.

    Attributes:
        batches: Where they come from.
        kept: Those of each part that has been loaded.
    """

    batches: EvaluationBatches
    kept: dict[str, list[Batch]] = field(default_factory=dict)

    def evaluation(self, part: str, plan: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """Load the images of a part to evaluate, or return those that were loaded before."""
        if part in self.kept:
            yield from self.kept[part]
            return
        loaded: list[Batch] = []
        left = KEPT_BYTES
        for batch in self.batches.evaluation(part, plan):
            left -= batch.images.nbytes
            loaded = [*loaded, batch] if left >= 0 else []
            yield batch
        if left >= 0:
            self.kept[part] = loaded


@dataclass
class Measuring:
    """Measures the network of a run.

    Attributes:
        run: The run.
        images: Its samples.
        accelerator: Device and processes.
        targets: The images of streams.
    """

    run: Run
    images: ImageLoaders
    accelerator: Accelerator
    targets: TargetImages

    def before(self, batches: EvaluationBatches) -> None:
        """Measure all parts, and keep the results as those before training."""
        state = self.run.state
        found = {part: self.evaluate(part, batches) for part in self._parts}
        state.before = {part: scalars(each.results) for part, each in found.items()}
        state.before |= self._without_labels()
        state.before_groups = {part: each.groups for part, each in found.items() if each.groups}

    def all(self, batches: EvaluationBatches, alpha: float | None = None) -> Measured:
        """Measure all parts.

        Args:
            batches: Where their batches come from.
            alpha: How the present weights were interpolated.
        """
        run = self.run
        losses = ValidationLoss(run.network)
        found = {
            part: self.evaluate(part, batches, losses if part == VALIDATION else None)
            for part in self._parts
        }
        groups: Groups = {part: each.groups for part, each in found.items() if each.groups}
        before, images = run.state.before_groups, self.counts
        return Measured(
            found[VALIDATION].results,
            {p: scalars(each.results) for p, each in found.items() if p != VALIDATION}
            | self._without_labels(),
            margins_of(run.selection, groups, before, images, run.config.epochs),
            alpha,
            losses.means(self.accelerator.num_processes),
            found[VALIDATION].folds,
        )

    def _without_labels(self) -> dict[str, dict[str, float]]:
        """Measure the streams of the target domain; each process measures all of their images."""
        run = self.run
        return {name: measure_target(run, self.targets, name) for name in run.target_streams}

    @property
    def counts(self) -> dict[str, int]:
        """Number of images of each part."""
        return {part: len(self.images.parts[part]) for part in self._parts}

    @property
    def _parts(self) -> tuple[str, ...]:
        return (VALIDATION, *self.run.evaluation)

    def evaluate(
        self, part: str, phase_batches: EvaluationBatches, losses: ValidationLoss | None = None
    ) -> Evaluated:
        """Evaluate a part on all processes together; each gets all results, in the same order.

        Args:
            part: Its name.
            phase_batches: Where its batches come from.
            losses: Adds up the loss parts of this process.
        """
        run, samples = self.run, self.images.parts[part]
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        plan = ordered_batches(len(samples), run.config.batch_size * processes)
        mine = [own for b in plan if (own := shard(b, rank, processes))]
        loaded = phase_batches.evaluation(part, mine)
        batches = decode_batches(
            run.network,
            track(loaded, f"evaluating {part}", sum(map(len, mine)), images_in),
            watch=None if losses is None else losses.add,
        )
        results: Iterable[Any] = ((d, b.targets, b.indices.tolist()) for d, b in batches)
        grouped = part in run.selection.uncertain
        nested = part == VALIDATION and run.config.validation == NESTED
        if processes > 1 or grouped or nested:
            results = list(results)
        everyones = results if processes == 1 else gather_object(results)
        task = run.network.task
        named = run.group_names.get(part)
        if named is None:
            whole = measure(task, ((d, targets) for d, targets, _ in everyones), run.metrics)
        else:
            everyones = list(everyones)
            whole = with_worst_group(
                task, measure_groups(task, samples, named, everyones, run.metrics)
            )
        found = Evaluated(whole)
        decoded = [(d, positions) for d, _, positions in everyones] if grouped or nested else []
        if grouped:
            found = replace(
                found, groups=measure_without_groups(task, samples, decoded, run.metrics)
            )
        if nested:
            found = replace(found, folds=measure_folds(task, samples, decoded))
        return found


def with_worst_group(task: Task, results: Mapping[str, Any]) -> dict[str, Any]:
    """Add the headline of the worst group to results by group.

    Args:
        task: The task.
        results: As ``measure_groups`` returns them.

    Returns:
        The results, with ``worst_group_`` and the name of the headline among them. Small groups do not count, unless
        all are small.
    """
    groups = results["groups"].values()
    compared = [g for g in groups if g["images"] >= SMALL] or list(groups)
    values = [group.get(task.headline, math.nan) for group in compared]
    worst = min(values) if task.better == "higher" else max(values)
    return {**results, f"worst_group_{task.headline}": worst}


def headline(run: Run, results: Mapping[str, Any]) -> float:
    """Return the headline metric.

    Raises:
        TrainingError: The results lack it.
    """
    name = run.network.task.headline
    value = results.get(name)
    if not isinstance(value, (int, float)):
        raise TrainingError(f"the task's metrics lack its headline {name!r}")
    return value


def rank(run: Run, measured: Measured) -> tuple[int, float, float]:
    """Return what ``is_preferred`` compares."""
    missing = run.selection.shortfall(measured.metrics, run.state.before, measured.margins)
    return (*missing, sign(run) * value(run, measured))


def value(run: Run, measured: Measured) -> float:
    """Return the metric that is best in the best epoch.

    Raises:
        TrainingError: The results lack the task's headline.
    """
    headline(run, measured.validation)
    return run.selection.value(measured.metrics, run.network.task.headline)


def sign(run: Run) -> float:
    """Return the factor that makes higher values of that metric better."""
    return run.selection.sign(run.network.task.better == "higher")
