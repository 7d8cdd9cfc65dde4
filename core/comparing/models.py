"""``compare``: several models on the same labeled images, with paired intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.averaging.members import Members, Model, load_models
from visiongraft.comparing.report import Against, Compared, ModelComparison
from visiongraft.comparing.settings import differing_settings
from visiongraft.config import FitConfig
from visiongraft.data.samples import Samples
from visiongraft.errors import OptionError, VisiongraftError
from visiongraft.model import TransferModel
from visiongraft.options import checks_keywords
from visiongraft.preparation.starting import lists_in
from visiongraft.task import Arrays, Task
from visiongraft.training.evaluation import decode_samples, scalars
from visiongraft.training.measuring.margins import (
    Estimate,
    jackknife_error,
    measure_without_groups,
    rare_events,
    student_quantile,
)
from visiongraft.training.measuring.own_metrics import OwnMetrics
from visiongraft.training.resuming.inputs import changed_options

ERROR = 0.025  # on each side of an interval of 95 %
NAMED = 10  # images on which two models differ most

Numbers = NDArray[np.float64]


@checks_keywords
def compare(
    models: Sequence[Model],
    *,
    data: Any = None,
    batch_size: int = 32,
    metrics: Any = None,
    task: type[Task] | None = None,
) -> ModelComparison:
    """Compare models on the same labeled images: which is better, and is the difference more than luck?

    Estimates hold 95 %; those of differences are paired, since all models see the same images, and so
    are much narrower than those of the metrics suggest. The standard errors come from the jackknife over 20
    random groups of images, which works for any metric. Where images are right or wrong, McNemar's exact
    test compares the images on which one model alone is right (McNemar, 1947).

    Args:
        models: Folders of runs or saved models, or models; at least two, of one task with the same
            classes. Each is compared with the first.
        data: Labeled data in any form that ``TransferModel.evaluate`` takes; the validation images of
            the first run if ``None`` and at hand.
        batch_size: Images per forward pass.
        metrics: Metrics of your own beside the task's, as for ``fit``; ``None`` for those of the runs, as far as
            their settings name them.
        task: The task's class, if it is not an installed plugin's.

    Returns:
        Settings that differ, metrics, differences, and the images on which models differ most.

    Raises:
        OptionError: The models have not the same task and classes, or there are no images.
        DataError: The data cannot be read.

    Examples:
        ``print(visiongraft.compare(["runs/a", "runs/b"], data="flowers/val"))``
    """
    if isinstance(models, str) or len(models) < 2:
        raise OptionError("compare takes at least two models: compare([MODEL, MODEL, ...])")
    names, loaded = load_models(models, task)
    for name, model in zip(names[1:], loaded[1:], strict=True):
        _check_comparable(loaded[0], model, f"{name} cannot be compared with {names[0]}")
    members = Members(tuple(names), tuple(loaded))
    data = members.evaluation(data)
    if data is None:
        raise OptionError("compare needs labeled images: pass data=PATH")
    own = _own_metrics(loaded, metrics)
    own.try_on(loaded[0].network, data.samples)
    measured = [_measure(model, data.samples, batch_size, own) for model in loaded]
    headline, images = loaded[0].task.headline, len(data.samples)
    intervals = [each.intervals(images) for each in measured]
    return ModelComparison(
        headline=headline,
        better=loaded[0].task.better,
        images=images,
        own=tuple(name for name in intervals[0] if own.names(name)),
        warnings=tuple(data.facts["warnings"]),
        settings=differing_settings(loaded),
        models=tuple(
            Compared(
                name,
                scalars(each.results),
                own_intervals[headline],
                own_intervals,
                scalars(model.facts.get("evaluation", {})),
            )
            for name, model, each, own_intervals in zip(
                names, loaded, measured, intervals, strict=True
            )
        ),
        against=tuple(
            _against(name, headline, measured[0], each, data.samples)
            for name, each in zip(names[1:], measured[1:], strict=True)
        ),
    )


@dataclass(frozen=True)
class _Measured:
    """The results of one model.

    Attributes:
        results: What the metrics computed for all images.
        without_groups: The headline, and each other metric that is a number, without each group of images.
        singles: The headline of each image alone; NaN where it has none.
    """

    results: dict[str, Any]
    without_groups: dict[str, Numbers]
    singles: Numbers

    def intervals(self, images: int) -> dict[str, Estimate]:
        """Return the interval of each metric."""
        return {
            name: _interval(self.results[name], groups, images)
            for name, groups in self.without_groups.items()
        }


def _own_metrics(models: Sequence[TransferModel], given: Any) -> OwnMetrics:
    """Make the metrics that were passed, or those that the runs measured."""
    task = models[0].task
    if given is not None:
        return OwnMetrics.of(given, task)
    named: dict[str, Any] = {}
    for model in models:
        stored = None if model.run_folder is None else FitConfig.read(model.run_folder).metrics
        known = {**model.metrics.metrics, **{n: m for n, m in (stored or {}).items() if m}}
        named = {**known, **named}
    return OwnMetrics.of(named or None, task)


def _measure(model: TransferModel, samples: Samples, batch_size: int, own: OwnMetrics) -> _Measured:
    task = model.task
    whole, singles = own.beside(task), np.full(len(samples), np.nan)

    def results() -> Iterator[tuple[Arrays, list[int]]]:
        for decoded, targets, positions in decode_samples(model.network, samples, batch_size):
            whole.update(decoded, targets)
            for row, position in enumerate(positions):
                one = {name: array[row : row + 1] for name, array in decoded.items()}
                singles[position] = _headline_of_one(task, one, samples.target(position))
            yield decoded, positions

    groups = measure_without_groups(task, samples, results(), own)
    measured = whole.compute()
    found = {
        name: np.asarray(values, dtype=np.float64)
        for name, values in groups.items()
        if _has_interval(task, own, name, [scalars(measured).get(name, math.nan), *values])
    }
    headline = np.asarray(groups.get(task.headline, ()), dtype=np.float64)
    return _Measured(measured, {**found, task.headline: headline}, singles)


def _has_interval(task: Task, own: OwnMetrics, name: str, values: Sequence[float]) -> bool:
    """Check whether an interval of a metric has a meaning: not of counts and thresholds beside it."""
    if not np.isfinite(values).all():
        return False
    if own.names(name):
        return True
    counts = all(value == int(value) > 1 for value in values)
    return not (task.metrics_over_pairs or task.targets_in_common or counts)


def _headline_of_one(task: Task, decoded: Arrays, target: Any) -> float:
    """Return the headline of one image alone; NaN if the metric needs several."""
    metrics = task.build_metrics()
    try:
        metrics.update(decoded, task.collate([target]))
        return scalars(metrics.compute()).get(task.headline, math.nan)
    except VisiongraftError:
        return math.nan


def _against(
    name: str, headline: str, first: _Measured, other: _Measured, samples: Samples
) -> Against:
    changes = {
        metric: _change(metric, first, other, len(samples))
        for metric in first.without_groups
        if metric in other.without_groups
    }
    apart = np.nan_to_num(np.abs(other.singles - first.singles))
    most = [int(i) for i in np.argsort(-apart, kind="stable")[:NAMED] if apart[i] > 0]
    both = np.stack([first.singles, other.singles])
    decided = np.isin(both, (0.0, 1.0)).all()
    only = [int((one > two).sum()) for one, two in (both, both[::-1])] if decided else None
    return Against(
        name,
        changes[headline],
        changes,
        None if only is None else (only[0], only[1]),
        None if only is None else mcnemar(*only),
        int((apart > 0).sum()),
        tuple((samples.name(i), float(first.singles[i]), float(other.singles[i])) for i in most),
    )


def _change(name: str, first: _Measured, other: _Measured, images: int) -> Estimate:
    """Return how much a metric differs, with an interval of pairs."""
    both = (first.without_groups[name], other.without_groups[name])
    bounded = all(map(_in_unit, both))
    return _around(other.results[name] - first.results[name], both[1] - both[0], images, bounded)


def mcnemar(first: int, other: int) -> float:
    """Compute the two-sided p-value of McNemar's exact test.

    Args:
        first: Number of images on which the first model alone is right.
        other: Number of images on which the other one alone is right.

    Returns:
        The probability of counts that differ so much or more if both models are equally good.

    Examples:
        >>> mcnemar(0, 5)
        0.0625
        >>> mcnemar(3, 3)
        1.0
    """
    total = first + other
    tail = sum(math.comb(total, k) for k in range(min(first, other) + 1))
    return min(1.0, float(2 * tail / 2**total))


def _interval(value: float, without_groups: Numbers, images: int) -> Estimate:
    bounded = _in_unit(without_groups)
    found = _around(value, without_groups, images, bounded)
    if not bounded:
        return found
    return Estimate(value, max(0.0, found.low), min(1.0, found.high))


def _around(value: float, without_groups: Numbers, images: int, bounded: bool) -> Estimate:
    """Return the interval of a value by the jackknife, and by the rule of three for rare events."""
    count = len(without_groups)
    margin = jackknife_error(without_groups) * student_quantile(1 - ERROR, count - 1)
    if bounded:
        margin = max(margin, rare_events(ERROR, images))
    return Estimate(value, value - margin, value + margin)


def _in_unit(values: Numbers) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())


def _check_comparable(first: TransferModel, other: TransferModel, problem: str) -> None:
    if type(first.task) is not type(other.task):
        raise OptionError(f"{problem}: its task is {other.task.name!r}, not {first.task.name!r}")
    channels = [model.backbone_info.in_channels for model in (first, other)]
    if channels[0] != channels[1]:
        raise OptionError(f"{problem}: its images have {channels[1]} channels, not {channels[0]}")
    options = list(changed_options(*(lists_in(m.task.metadata()) for m in (first, other))))
    if options:
        raise OptionError(f"{problem}: {'; '.join(options)}")
