"""Which epoch a run keeps: the best one, the last one, or the best that satisfies conditions.

Conditions compare metrics of datasets with thresholds: ``best(anchors.accuracy >= -0.02)``. With
``confidence=0.95`` among them, they hold for images like those of the dataset, not for these alone.
Another metric than the task's headline chooses among epochs by ``lowest(SET.METRIC)`` and
``highest(SET.METRIC)``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from visiongraft.errors import OptionError, near_matches

VALIDATION = "validation"  # the name of the validation split in conditions
ROUNDING = 1e-9  # by which a value may miss its threshold: differences of decimals are not exact
FORM = (
    "'best', 'last' or 'best(SET.METRIC >= NUMBER)', such as 'best(anchors.accuracy >= -0.02)', or "
    "'lowest(SET.METRIC)' or 'highest(SET.METRIC)', which may have conditions after the metric"
)

Results = Mapping[str, Mapping[str, float]]  # metrics by dataset and name
Margins = Mapping["Condition", float]  # how far values must be from their thresholds

_CONFIDENCE = re.compile(r"confidence\s*=\s*(\d*\.?\d+)")
_CONDITION = re.compile(r"([\w-]+)\.([^\s<>=]+)\s*(>=|<=)\s*([+-]?)(\d+\.?\d*|\.\d+)(e[+-]?\d+)?")


@dataclass(frozen=True)
class Condition:
    """A bound on a metric of a dataset.

    Attributes:
        dataset: Name of the evaluation set, or ``"validation"``.
        metric: Name of one of the task's metrics.
        at_least: Whether the threshold is the lowest value to accept, or the highest.
        threshold: The threshold, or its difference from the value before training.
        relative: Whether it is such a difference.
    """

    dataset: str
    metric: str
    at_least: bool
    threshold: float
    relative: bool

    def bound(self, before: Results) -> float:
        """Return the threshold as a value of the metric.

        Args:
            before: The values before training.
        """
        start = before[self.dataset][self.metric] if self.relative else 0.0
        return start + self.threshold

    def shortfall(self, results: Results, before: Results, margin: float = 0.0) -> float:
        """Return how far an epoch is from satisfying the condition; 0 if it does.

        Args:
            results: The values of the epoch.
            before: The values before training.
            margin: How far the value must be from the threshold.
        """
        value = results[self.dataset].get(self.metric, math.nan)
        bound = self.bound(before)
        missing = (bound - value if self.at_least else value - bound) + margin
        if math.isnan(missing):
            return math.inf
        return missing if missing > ROUNDING else 0.0

    def describe(self, results: Results, before: Results, margin: float = 0.0) -> str:
        """Describe a condition that an epoch does not satisfy, with both values."""
        value = results[self.dataset].get(self.metric, math.nan)
        side = "below" if self.at_least else "above"
        if margin:
            side = f"less than its margin of error of {margin:.4g} {'above' if self.at_least else 'below'}"
        words = f"{self.dataset}.{self.metric} is {value:.4g}, {side} {self.bound(before):.4g}"
        if not self.relative:
            return words
        return f"{words} ({before[self.dataset][self.metric]:.4g} before training)"


@dataclass(frozen=True)
class Selection:
    """Which epoch's weights a run keeps.

    Attributes:
        last: Keep the last epoch instead of the best.
        conditions: What the best epoch must satisfy.
        confidence: Probability with which it does so on other images like those that were measured;
            ``None`` compares the measured values as they are.
        metric: Dataset and name of the metric that is best in the best epoch; ``None`` for the
            headline on the validation set.
        higher: Whether higher values of ``metric`` are better.
    """

    last: bool = False
    conditions: tuple[Condition, ...] = ()
    confidence: float | None = None
    metric: tuple[str, str] | None = None
    higher: bool = False

    @classmethod
    def parse(cls, text: str) -> Selection:
        """Read the setting ``select``.

        Args:
            text: ``"best"``, ``"last"``, or ``"best(SET.METRIC >= NUMBER, ...)"``, also with ``<=``.
                A number with a sign is relative to the value before training. ``confidence=NUMBER`` may
                follow the conditions.
                ``"lowest(SET.METRIC)"`` and ``"highest(SET.METRIC)"`` may have conditions after the
                metric.

        Returns:
            The selection.

        Raises:
            OptionError: The text has another form.

        Examples:
            >>> [c.threshold for c in Selection.parse("best(old.accuracy >= -0.02)").conditions]
            [-0.02]
        """
        written = text.strip()
        if written in ("best", "last"):
            return cls(last=written == "last")
        match = re.fullmatch(r"(best|lowest|highest)\((.*)\)", written, re.DOTALL)
        if match is None:
            raise OptionError(f"select={text!r} is not {FORM}")
        word, parts = match[1], match[2].split(",")
        metric = None if word == "best" else _metric(parts.pop(0), text)
        stated = _CONFIDENCE.fullmatch(parts[-1].strip()) if len(parts) > 1 else None
        confidence = float(stated[1]) if stated else None
        if confidence is not None and not 0.5 <= confidence < 1:
            raise OptionError(f"select={text!r}: confidence is not a number from 0.5 to below 1")
        conditions = tuple(_condition(part, text) for part in (parts[:-1] if stated else parts))
        return cls(
            conditions=conditions, confidence=confidence, metric=metric, higher=word == "highest"
        )

    @property
    def uncertain(self) -> frozenset[str]:
        """The datasets whose metrics are compared with a margin of error."""
        conditions = self.conditions if self.confidence is not None else ()
        return frozenset(condition.dataset for condition in conditions)

    @property
    def compared(self) -> list[tuple[str, str]]:
        """Dataset and name of each metric that is compared, but for the headline."""
        own = [] if self.metric is None else [self.metric]
        return own + [(each.dataset, each.metric) for each in self.conditions]

    @property
    def datasets(self) -> frozenset[str]:
        """The datasets whose metrics are compared, but for the headline's."""
        return frozenset(dataset for dataset, _ in self.compared)

    def value(self, results: Results, headline: str) -> float:
        """Return the metric that is best in the best epoch.

        Args:
            results: The values of an epoch.
            headline: Name of the task's headline metric.
        """
        dataset, name = self.metric or (VALIDATION, headline)
        return results[dataset].get(name, math.nan)

    def sign(self, higher: bool) -> float:
        """Return the factor that makes higher values of that metric better.

        Args:
            higher: Whether a higher headline is better.
        """
        return 1.0 if (higher if self.metric is None else self.higher) else -1.0

    def check_names(self, sets: Mapping[str, object]) -> None:
        """Refuse a metric of a dataset that does not exist.

        Args:
            sets: The evaluation sets and streams by name.

        Raises:
            OptionError: There is no such dataset.
        """
        for name, _ in self.compared:
            if name != VALIDATION and name not in sets:
                hint = near_matches(name, [*sets, VALIDATION])
                raise OptionError(
                    f"select names {name!r}, which evaluate_on does not, nor streams{hint}"
                )

    def check_metrics(self, before: Results) -> None:
        """Refuse a condition on a metric that does not exist, or on a change of no number.

        Args:
            before: The values before training.

        Raises:
            OptionError: A metric does not exist, or its value before training is not finite although
                the threshold is relative to it.
        """
        for dataset, metric in self.compared:
            found = before[dataset]
            if metric not in found:
                raise OptionError(
                    f"select: {dataset}.{metric}: the task has no metric {metric!r}"
                    f"{near_matches(metric, found)}"
                )
        for condition in self.conditions:
            dataset, metric = condition.dataset, condition.metric
            start = before[dataset][metric]
            if condition.relative and not math.isfinite(start):
                raise OptionError(
                    f"select: {dataset}.{metric} is {start} before training, so that no change from it can be "
                    "measured; write an absolute threshold, without a sign"
                )

    def shortfall(
        self, results: Results, before: Results, margins: Margins | None = None
    ) -> tuple[int, float]:
        """Return how many conditions an epoch does not satisfy, and how far it is from them in sum.

        Args:
            results: The values of the epoch.
            before: The values before training.
            margins: By condition, how far its value must be from its threshold.
        """
        margins = margins or {}
        missing = [c.shortfall(results, before, margins.get(c, 0.0)) for c in self.conditions]
        return sum(m > 0 for m in missing), sum(missing)

    def unsatisfied(
        self, results: Results, before: Results, margins: Margins | None = None
    ) -> list[str]:
        """Describe the conditions that an epoch does not satisfy, one line each; see ``shortfall``."""
        margins = margins or {}
        return [
            c.describe(results, before, margins.get(c, 0.0))
            for c in self.conditions
            if c.shortfall(results, before, margins.get(c, 0.0)) > 0
        ]


def for_trials(text: str, trials: int) -> str:
    """Divide the probability of error of a selection by the number of trainings that one is chosen from.

    Args:
        text: The setting ``select``.
        trials: How many trainings there are.

    Returns:
        The setting for each of them; without a confidence it is the same.

    Examples:
        >>> for_trials("best(old.accuracy >= -0.02, confidence=0.9)", 5)
        'best(old.accuracy >= -0.02, confidence=0.98)'
    """
    confidence = Selection.parse(text).confidence
    if confidence is None:
        return text
    return _CONFIDENCE.sub(f"confidence={1 - (1 - confidence) / trials:.12f}".rstrip("0"), text)


def is_preferred(epoch: tuple[int, float, float], best: tuple[int, float, float]) -> bool:
    """Compare an epoch with the best so far.

    Args:
        epoch: How many conditions it does not satisfy, its shortfall, and its headline metric, with
            the sign that makes higher values better.
        best: The same of the best epoch so far.

    Returns:
        Whether it satisfies more conditions, is nearer to satisfying them, or has a better headline.
    """
    if epoch[:2] != best[:2]:
        return epoch[:2] < best[:2]
    return is_better(epoch[2], best[2])


def is_better(value: float, best: float) -> bool:
    """Compare two headlines; one that is not a number is worse than any other."""
    return value > best or (math.isnan(best) and not math.isnan(value))


def _condition(part: str, text: str) -> Condition:
    match = _CONDITION.fullmatch(part.strip())
    if match is None:
        raise OptionError(f"select={text!r}: {part.strip()!r} is not a condition; write {FORM}")
    dataset, metric, comparison, sign, digits, exponent = match.groups()
    threshold = float(sign + digits + (exponent or ""))
    return Condition(dataset, metric, comparison == ">=", threshold, bool(sign))


def _metric(part: str, text: str) -> tuple[str, str]:
    match = re.fullmatch(r"([\w-]+)\.([^\s<>=]+)", part.strip())
    if match is None:
        raise OptionError(f"select={text!r}: {part.strip()!r} is not a metric; write {FORM}")
    return match[1], match[2]
