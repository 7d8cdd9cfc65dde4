"""How far a metric of some images may be from that of all images like them.

The standard error comes from the jackknife over groups of images (Efron and Stein, 1981): the metric is computed
without each group in turn. It works for any metric, and for the change of one it knows that both values are of the same
images. It is 0 if no group differs, however few images there are, so that the bound of a rare event is added:
if none of n images changed, up to ln(1 / error) / n of all may change ("the rule of three"). It is that of metrics
from 0 to 1, in which an image counts for 1 / n.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.samples import Samples
from visiongraft.errors import OptionError
from visiongraft.seeds import mix_seed
from visiongraft.task import Arrays, Task
from visiongraft.training.evaluation import build_metrics, scalars, update_rows
from visiongraft.training.measuring.own_metrics import OwnMetrics
from visiongraft.training.selection.criteria import Condition, Results, Selection

GROUPS = 20

Groups = Mapping[str, Mapping[str, Sequence[float]]]  # by dataset and metric, without each group


@dataclass(frozen=True)
class Estimate:
    """A number with its interval of 95 %.

    Attributes:
        value: The estimate.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def measure_without_groups(
    task: Task,
    samples: Samples,
    results: Iterable[tuple[Arrays, Sequence[int]]],
    own: OwnMetrics | None = None,
) -> dict[str, list[float]]:
    """Measure decoded results without each of up to ``GROUPS`` random groups of samples in turn.

    Args:
        task: Makes the metrics.
        samples: The samples that were decoded.
        results: Decoded arrays and positions of the samples, batch by batch.
        own: Metrics of the user's own.

    Returns:
        Of each metric that is a number, its value without each group; empty for a single sample.
    """
    if len(samples) < 2:
        return {}
    count = min(GROUPS, len(samples))
    order = np.random.default_rng(mix_seed(0, "groups")).permutation(len(samples))
    group_of = np.empty(len(samples), dtype=int)
    group_of[order] = np.arange(len(samples)) % count
    metrics = [build_metrics(task, own) for _ in range(count)]
    for arrays, positions in results:
        for group, each in enumerate(metrics):
            rows = np.flatnonzero(group_of[list(positions)] != group)
            update_rows(each, task, samples, arrays, positions, rows)
    found = [scalars(each.compute()) for each in metrics]
    names = [name for name in found[0] if all(name in values for values in found)]
    return {name: [values[name] for values in found] for name in names}


def margins_of(
    selection: Selection,
    groups: Groups,
    before: Groups,
    images: Mapping[str, int],
    choices: int,
) -> dict[Condition, float]:
    """Compute how far values must be from their thresholds, so that a choice among epochs keeps its confidence.

    Args:
        selection: The conditions, and their confidence.
        groups: The metrics without each group.
        before: The same before training.
        images: Number of images of each dataset.
        choices: Number of epochs among which one is chosen, each of which may satisfy a condition by luck: their
            probabilities of error add up (Bonferroni).

    Returns:
        The margin of each condition; empty without a confidence.
    """
    if selection.confidence is None:
        return {}
    error = (1 - selection.confidence) / choices
    margins = {}
    for c in selection.conditions:
        values = groups.get(c.dataset, {}).get(c.metric, ())
        quantile = student_quantile(1 - error, len(values) - 1)
        margins[c] = _standard_error(c, groups, before) * quantile
        if all(0 <= value <= 1 for value in values):
            margins[c] += rare_events(error, images[c.dataset])
    return margins


def refuse_impossible(
    selection: Selection, before: Results, images: Mapping[str, int], choices: int
) -> None:
    """Refuse a budget that no epoch could satisfy with so few images, even if nothing changes.

    Args:
        selection: The conditions, and their confidence.
        before: The values before training.
        before: The values before training.
        images: Number of images of each dataset.
        choices: As for ``margins_of``.

    Raises:
        OptionError: A set has too few images.
    """
    if selection.confidence is None:
        return
    error = (1 - selection.confidence) / choices
    for condition in selection.conditions:
        budget = -condition.threshold if condition.at_least else condition.threshold
        count = images[condition.dataset]
        asked = condition.relative and budget > 0
        value = before[condition.dataset][condition.metric]
        if asked and 0 <= value <= 1 and rare_events(error, count) > budget:
            raise OptionError(
                f"select: {condition.dataset}.{condition.metric}: {count} images cannot show a change of at "
                f"most {budget:g} with confidence {selection.confidence:g}; it takes at least "
                f"{math.ceil(-math.log(error) / budget)} images for {choices} "
                f"{'epoch' if choices == 1 else 'epochs'}, or a larger budget"
            )


def jackknife_error(without_groups: Sequence[float] | NDArray[np.float64]) -> float:
    """Estimate the standard error of a metric by the jackknife.

    Args:
        without_groups: The metric without each group of images, or its change.

    Returns:
        The standard error; infinite with fewer than two groups.

    Examples:
        >>> jackknife_error([0.5, 0.5, 0.5])
        0.0
    """
    values = np.asarray(without_groups, dtype=float)
    if len(values) < 2:
        return math.inf
    spread = float(((values - values.mean()) ** 2).sum())
    return math.sqrt(spread * (len(values) - 1) / len(values))


def rare_events(error: float, images: int) -> float:
    """Return the fraction of all images that may have changed although none of some did.

    Examples:
        >>> round(rare_events(0.05, 300), 3)
        0.01
    """
    return -math.log(error) / max(images, 1)


def student_quantile(probability: float, freedom: int) -> float:
    """Approximate a quantile of Student's t distribution by an expansion (Hill, 1970).

    Args:
        probability: In (0, 1).
        freedom: Degrees of freedom; the relative error is below 1 % from 8 on.

    Examples:
        >>> round(student_quantile(0.95, 19), 2)
        1.73
    """
    z, n = NormalDist().inv_cdf(probability), max(freedom, 1)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / n + second / n**2 + third / n**3


def _standard_error(condition: Condition, groups: Groups, before: Groups) -> float:
    """Estimate the standard error of the metric of a condition, or of its change."""
    name, metric = condition.dataset, condition.metric
    values = groups.get(name, {}).get(metric, ())
    if condition.relative and values:
        return jackknife_error(np.subtract(values, before[name][metric]))
    return jackknife_error(values)
