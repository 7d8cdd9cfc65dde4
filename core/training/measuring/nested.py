"""An honest number for the epoch that is best on the validation images: nested validation.

The validation images are divided into folds. For each fold, the images of the other folds choose the epoch, and the
fold measures it, so that no image judges an epoch that it helped to choose (Varma and Simon, 2006, "Bias in error
estimation when using cross-validation for model selection"). The mean over folds estimates what choosing the best
epoch is worth on other images. It takes no further training and no further pass over the images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.config import NESTED, FitConfig
from visiongraft.data.samples import Samples
from visiongraft.errors import OptionError
from visiongraft.seeds import mix_seed
from visiongraft.task import Arrays, Task
from visiongraft.training.evaluation import scalars, update_rows
from visiongraft.training.selection.criteria import is_better

FOLDS = 5
FEWEST = 4  # samples, or subjects, of which two folds of two can be made

Folds = list[tuple[float, float]]  # the headline without each fold, and of it alone


def check_nested(config: FitConfig, validation: Samples) -> None:
    """Refuse nested validation where it means nothing.

    Args:
        config: The settings of the run.
        validation: The validation samples.

    Raises:
        OptionError: The epoch is not chosen by the validation images alone, or there are too few of them.
    """
    if config.validation != NESTED:
        return
    if config.select != "best":
        raise OptionError(
            f"validation='nested' is for the epoch that is best on the validation images; omit select={config.select!r}"
        )
    units = len(set(_units(validation)))
    if units < FEWEST:
        what = "subjects" if validation.subject(0) is not None else "images"
        raise OptionError(
            f"validation='nested' needs at least {FEWEST} validation {what}, not {units}; add some, or pass a "
            "fraction"
        )


def measure_folds(
    task: Task, samples: Samples, results: Iterable[tuple[Arrays, Sequence[int]]]
) -> Folds:
    """Measure decoded results without each fold of the samples, and on each fold alone.

    Args:
        task: Makes the metrics.
        samples: The samples that were decoded; those of one subject are in one fold.
        results: Decoded arrays and positions of the samples, batch by batch.

    Returns:
        For each fold the headline metric without it and of it alone.
    """
    fold_of = folds(samples)
    count = int(fold_of.max()) + 1
    without, alone = ([task.build_metrics() for _ in range(count)] for _ in range(2))
    for arrays, positions in results:
        for fold in range(count):
            inside = fold_of[list(positions)] == fold
            for metrics, rows in ((without[fold], ~inside), (alone[fold], inside)):
                update_rows(metrics, task, samples, arrays, positions, np.flatnonzero(rows))
    return [
        (_headline(task, others.compute()), _headline(task, own.compute()))
        for others, own in zip(without, alone, strict=True)
    ]


def folds(samples: Samples) -> NDArray[np.int64]:
    """Divide samples into folds at random, the same ones in each epoch.

    Returns:
        The fold of each sample.
    """
    units = _units(samples)
    distinct = sorted(set(units))
    order = np.random.default_rng(mix_seed(0, "folds")).permutation(len(distinct))
    count = min(FOLDS, len(distinct) // 2)
    fold_of = {distinct[place]: number % count for number, place in enumerate(order)}
    return np.array([fold_of[unit] for unit in units], dtype=np.int64)


def nested_estimate(history: Sequence[Mapping[str, Any]], better: str) -> float | None:
    """Estimate what choosing the best epoch is worth on images that did not choose it.

    Args:
        history: The record of each epoch; ``folds`` holds what ``measure_folds`` returned for the weights
            that the epoch offered.
        better: Whether a ``"higher"`` or a ``"lower"`` headline is better.

    Returns:
        The mean over folds; ``None`` if nothing was measured, or no fold alone has the metric.

    Examples:
        >>> first = {"folds": [[(0.9, 0.5), (0.6, 0.7)]]}
        >>> second = {"folds": [[(0.8, 0.6), (0.7, 0.8)]]}
        >>> nested_estimate([first, second], "higher")  # the first epoch by one half, the second by the other
        0.65
    """
    offers = [offer for record in history for offer in record.get("folds", ())]
    if not offers:
        return None
    sign = 1 if better == "higher" else -1
    values = []
    for fold in range(len(offers[0])):
        best = offers[0]
        for offer in offers[1:]:
            if is_better(sign * offer[fold][0], sign * best[fold][0]):
                best = offer
        values.append(best[fold][1])
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else None


def _units(samples: Samples) -> list[str]:
    """Return what must not be divided: the subject of each sample, or the sample."""
    subjects = [samples.subject(i) for i in range(len(samples))]
    return [
        str(i) if subject is None else f"subject {subject}" for i, subject in enumerate(subjects)
    ]


def _headline(task: Task, results: dict[str, Any]) -> float:
    return scalars(results).get(task.headline, math.nan)
