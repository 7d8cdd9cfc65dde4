"""Thresholds that differ by group, so that groups are treated alike (Hardt et al., 2016), by fairlearn.

"Equality of Opportunity in Supervised Learning": a trained model stays as it is, and the score from which a class is
predicted depends on the group. What this gains and costs is measured on images that the thresholds were not chosen on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.groups import SMALL, group_names
from visiongraft.errors import OptionError, PluginError, near_matches
from visiongraft.options import check_choice
from visiongraft.plugins.classification.data import ids_of
from visiongraft.plugins.classification.rules import PLAIN, PLAIN_RULE, Floats, Rule
from visiongraft.saving.files import through_json
from visiongraft.saving.saved_model import add_facts, model_folder
from visiongraft.seeds import mix_seed
from visiongraft.task_contract.group_rules import RULES
from visiongraft.training.evaluation import decode_samples
from visiongraft.training.measuring.evaluation_data import prepare_evaluation
from visiongraft.training.measuring.margins import Estimate

if TYPE_CHECKING:
    from visiongraft.model import TransferModel

RATES = ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy")
CONSTRAINTS: Mapping[str, tuple[str, ...]] = {  # and the rates that are to be alike
    "equalized_odds": ("true_positive_rate", "false_positive_rate"),
    "true_positive_rate_parity": ("true_positive_rate",),
    "false_positive_rate_parity": ("false_positive_rate",),
    "demographic_parity": ("selection_rate",),
}
DRAWS = 300
ENDS = (0.025, 0.975)  # of an interval of 95 %

Rates = dict[str, float]


@dataclass(frozen=True)
class GroupThresholds:
    """Thresholds by group, and what they gain and cost.

    Attributes:
        positive: The class that is predicted or not.
        by: What defines the groups.
        constraint: What is to be alike.
        rules: How each group is decided; groups that are too small keep the plain threshold of 0.5.
        images: Number of images of each group.
        small: Groups with too few images, or without images with or without the class, for a threshold of their own.
        before: Rates of each group with a threshold of 0.5.
        after: Rates on images that the thresholds were not chosen on.
        gaps: Largest difference between groups that are not small, before and after, of each rate that is to be alike.
        accuracies: Accuracy on all images, before and after.
    """

    positive: str
    by: str
    constraint: str
    rules: dict[str, Rule]
    images: dict[str, int]
    small: tuple[str, ...]
    before: dict[str, Rates]
    after: dict[str, Rates]
    gaps: dict[str, tuple[Estimate, Estimate]]
    accuracies: tuple[Estimate, Estimate]

    def decide(
        self, scores: Floats | Sequence[float], groups: Sequence[str], seed: int = 0
    ) -> NDArray[np.bool_]:
        """Decide whether each image has the class.

        Args:
            scores: (N,), probability of the class in 0..1, as the model predicts it.
            groups: Name of the group of each image; an unknown one has the plain threshold.
            seed: Of the random decisions that rules may contain.

        Returns:
            (N,), whether the class is predicted.
        """
        values = np.asarray(scores, dtype=np.float64)
        chances = _chances(self.rules, values, np.asarray(groups, dtype=object))
        drawn = np.random.default_rng(mix_seed(seed, "decide")).random(len(values))
        return np.asarray(drawn < chances)

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        return asdict(self)

    def facts(self) -> dict[str, Any]:
        """Return what a model keeps: the rules, and what they were chosen for and gained."""
        named = ("positive", "by", "constraint", "images", "small", "gaps", "accuracies")
        found = self.to_json()
        return {"rules": found["rules"], **{name: found[name] for name in named}}

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return heads and rows of a table of rates before and after, by group."""
        rates = [*CONSTRAINTS[self.constraint], "accuracy"]
        rows = []
        for group, count in self.images.items():
            pairs = [(self.before[group][r], self.after[group][r]) for r in rates]
            rows.append([group or "(none)", str(count), *(f"{a:.3f} -> {b:.3f}" for a, b in pairs)])
        return [self.by, "images", *(rate.replace("_", " ") for rate in rates)], rows

    def statements(self) -> list[str]:
        """Return what was found, one line each."""
        lines = []
        if self.small:
            names = ", ".join(name or "(none)" for name in self.small)
            lines.append(f"too few images for a threshold of their own: {names}")
        for rate, pair in self.gaps.items():
            lines.append(f"largest difference in {rate.replace('_', ' ')}: {_both(pair)}")
        lines.append(f"accuracy: {_both(self.accuracies)}")
        drawn = [g or "(none)" for g, r in self.rules.items() if _is_random(r)]
        if drawn:
            lines.append(f"some decisions are drawn at random in: {', '.join(drawn)}")
        lines.append(
            "rates after are of images that the thresholds were not chosen on; whoever decides must know the group"
        )
        return lines


def group_thresholds(
    model: TransferModel,
    data: Any,
    *,
    groups: str | Path | Callable[[str], str],
    constraint: str = "equalized_odds",
    positive: str | None = None,
    seed: int = 0,
    batch_size: int = 32,
    save: bool = False,
) -> GroupThresholds:
    """Choose thresholds by group, so that rates are alike, and measure what this gains and costs.

    Thresholds are those of the highest accuracy under the constraint, by fairlearn's ``ThresholdOptimizer``. The data
    are divided into two halves, and each half is decided by thresholds that were chosen on the other; the thresholds that
    are returned were chosen on all of them.

    Args:
        model: A classifier.
        data: Labeled images in any form that ``evaluate`` takes, which were not in training.
        groups: An attribute of the samples, a file with the columns ``path`` and ``group``, or a function from the
            name of a sample to its group.
        constraint: What is to be alike: ``"equalized_odds"``, ``"true_positive_rate_parity"``,
            ``"false_positive_rate_parity"`` or ``"demographic_parity"``.
        positive: The class that is predicted or not; ``None`` for the second one of two.
        seed: Of the halves, the random decisions and the intervals.
        batch_size: Images per forward pass.
        save: Whether the model and files that are exported from it keep the thresholds, so that
            ``predict(images, groups=...)`` decides by them. A model of a run is saved with them.

    Raises:
        OptionError: A name is unknown, or fewer than two groups have enough images.
        PluginError: fairlearn is not installed.
    """
    check_choice("constraint", constraint, tuple(CONSTRAINTS))
    optimizer = _optimizer()
    names = list(model.task.metadata()["class_names"])
    chosen = _positive(names, positive)
    channels = model.backbone_info.in_channels
    samples = prepare_evaluation(model.task, data, channels, model.training_images).samples
    values = np.array(group_names(samples, groups), dtype=object)
    scores, truth = np.zeros(len(samples)), np.zeros(len(samples), dtype=bool)
    for decoded, _, positions in decode_samples(model.network, samples, batch_size):
        scores[positions] = decoded["probabilities"][:, names.index(chosen)]
    for index in range(len(samples)):
        truth[index] = names.index(chosen) in ids_of(samples.target(index))
    parts = _halves(values, truth, seed)
    fit = _Fit(optimizer, constraint, values, scores, truth)
    chances = np.zeros(len(samples))
    for part in parts:
        chances[part] = _chances(fit.rules(~part), scores[part], values[part])
    plain = (scores > PLAIN).astype(float)
    rules, small = fit.rules(np.ones(len(samples), dtype=bool)), fit.small
    compared = [name for name in sorted(set(values)) if name not in small]
    measured = _Measured(values, truth, plain, chances, compared, constraint, seed)
    thresholds = GroupThresholds(
        chosen,
        groups if isinstance(groups, str) else getattr(groups, "__name__", str(groups)),
        constraint,
        rules,
        dict(sorted(Counter(values).items())),
        tuple(small),
        _rates_by_group(values, truth, plain),
        _rates_by_group(values, truth, chances),
        measured.gaps(),
        measured.accuracies(),
    )
    if save:
        _keep(model, thresholds)
    return thresholds


def _keep(model: TransferModel, thresholds: GroupThresholds) -> None:
    facts = {RULES: through_json(thresholds.facts())}
    model.facts.update(facts)
    if model.run_folder is not None:
        add_facts(model_folder(model.run_folder), model.network, facts)


def _optimizer() -> Any:
    try:
        from fairlearn.postprocessing import ThresholdOptimizer
    except ImportError as error:
        raise PluginError(
            "group_thresholds needs fairlearn: pip install 'visiongraft[fairness]'"
        ) from error
    return ThresholdOptimizer


def _positive(names: list[str], positive: str | None) -> str:
    if positive is None and len(names) == 2:
        return names[1]
    if positive not in names:
        hint = (
            near_matches(str(positive), names)
            if positive
            else f"; choose one of {', '.join(names)}"
        )
        raise OptionError(f"positive={positive!r} is not a class of the model{hint}")
    return positive


def _halves(values: Any, truth: NDArray[np.bool_], seed: int) -> list[NDArray[np.bool_]]:
    """Divide images at random, alike by group and class."""
    order = np.random.default_rng(mix_seed(seed, "halves")).permutation(len(values))
    half = np.zeros(len(values), dtype=bool)
    for name in sorted(set(values)):
        for kind in (False, True):
            own = order[(values[order] == name) & (truth[order] == kind)]
            half[own[: len(own) // 2]] = True
    return [half, ~half]


@dataclass(frozen=True)
class _Fit:
    """Chooses thresholds on some of the images."""

    optimizer: Any
    constraint: str
    values: Any
    scores: Floats
    truth: NDArray[np.bool_]

    @property
    def small(self) -> list[str]:
        """Groups that have too few images, or too few of either kind for two halves."""
        found = []
        for name in sorted(set(self.values)):
            own = self.truth[self.values == name]
            if len(own) < SMALL or min(own.sum(), (~own).sum()) < 2:
                found.append(name)
        return found

    def rules(self, chosen: NDArray[np.bool_]) -> dict[str, Rule]:
        """Return the rule of each group, chosen on some of the images."""
        small = self.small
        known = sorted(set(self.values) - set(small))
        if len(known) < 2:
            raise OptionError(
                f"groups: {len(known)} of {len(set(self.values))} groups have {SMALL} images and two of either kind, "
                "which thresholds by group need; at least two must"
            )
        use = chosen & np.isin(self.values.astype(str), [str(name) for name in known])
        made = self.optimizer(
            estimator=_Scores(),
            constraints=self.constraint,
            objective="accuracy_score",
            prefit=True,
            predict_method="predict",
        )
        made.fit(
            self.scores[use, None],
            self.truth[use].astype(int),
            sensitive_features=self.values[use].astype(str),
        )
        found = made.interpolated_thresholder_.interpolation_dict
        rules = {str(name): _rule(each) for name, each in found.items()}
        return {**dict.fromkeys(small, PLAIN_RULE), **rules}


def _Scores() -> Any:
    """Return an estimator that returns the scores that it is given."""
    from sklearn.base import BaseEstimator

    class Scores(BaseEstimator):  # type: ignore[misc]
        def __sklearn_is_fitted__(self) -> bool:
            return True

        def fit(self, features: Any, labels: Any) -> Any:
            return self

        def predict(self, features: Any) -> Any:
            return np.asarray(features)[:, 0]

    return Scores()


def _rule(found: Any) -> Rule:
    operations = [found["operation0"], found["operation1"]]
    thresholds = [float(np.clip(each.threshold, -1.0, 2.0)) for each in operations]  # no infinities
    rule = Rule(
        (float(found["p0"]), float(found["p1"])),
        tuple(thresholds),
        tuple(each.operator == ">" for each in operations),
    )
    if "p_ignore" in found:
        constant = float(found["prediction_constant"])
        rule = replace(rule, ignored=float(found["p_ignore"]), constant=constant)
    return rule


def _chances(rules: Mapping[str, Rule], scores: Floats, values: Any) -> Floats:
    found = np.zeros(len(scores))
    for name in set(values):
        own = values == name
        found[own] = rules.get(name, PLAIN_RULE).chances(scores[own])
    return found


def _rates(truth: NDArray[np.bool_], chances: Floats) -> Rates:
    """Return the rates to expect; those over no image are not numbers."""

    def mean(values: Floats) -> float:
        return float(values.mean()) if len(values) else float("nan")

    return {
        "selection_rate": mean(chances),
        "true_positive_rate": mean(chances[truth]),
        "false_positive_rate": mean(chances[~truth]),
        "accuracy": mean(np.where(truth, chances, 1 - chances)),
    }


def _rates_by_group(values: Any, truth: NDArray[np.bool_], chances: Floats) -> dict[str, Rates]:
    return {
        name: _rates(truth[values == name], chances[values == name]) for name in sorted(set(values))
    }


@dataclass(frozen=True)
class _Measured:
    """Gaps and accuracies before and after, with intervals by a bootstrap over images."""

    values: Any
    truth: NDArray[np.bool_]
    before: Floats
    after: Floats
    compared: Sequence[str]
    constraint: str
    seed: int

    def gaps(self) -> dict[str, tuple[Estimate, Estimate]]:
        rates = CONSTRAINTS[self.constraint]
        return {
            rate: (
                self._estimate(partial(self._gap, self.before, rate)),
                self._estimate(partial(self._gap, self.after, rate)),
            )
            for rate in rates
        }

    def accuracies(self) -> tuple[Estimate, Estimate]:
        def accuracy(chosen: Any, chances: Floats) -> float:
            return _rates(self.truth[chosen], chances[chosen])["accuracy"]

        return (
            self._estimate(lambda i: accuracy(i, self.before)),
            self._estimate(lambda i: accuracy(i, self.after)),
        )

    def _gap(self, chances: Floats, rate: str, chosen: Any) -> float:
        found = _rates_by_group(self.values[chosen], self.truth[chosen], chances[chosen])
        own = [found[name][rate] for name in self.compared if name in found]
        return float(np.nanmax(own) - np.nanmin(own))

    def _estimate(self, measure: Callable[[Any], float]) -> Estimate:
        generator = np.random.default_rng(mix_seed(self.seed, "intervals"))
        count = len(self.truth)
        drawn = [measure(generator.integers(0, count, count)) for _ in range(DRAWS)]
        low, high = np.nanquantile(drawn, ENDS)
        return Estimate(measure(np.arange(count)), float(low), float(high))


def _is_random(rule: Rule) -> bool:
    mixed = [p for p in rule.probabilities if 1e-9 < p < 1 - 1e-9]
    return bool(mixed) or 1e-9 < rule.ignored


def _both(pair: tuple[Estimate, Estimate]) -> str:
    before, after = (f"{e.value:.3f} ({e.low:.3f} to {e.high:.3f})" for e in pair)
    return f"{before} before, {after} after"
