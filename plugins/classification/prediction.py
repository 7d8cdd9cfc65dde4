"""Typed predictions of a classifier. Imports numpy only: a deployed model needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.errors import ArtifactError
from visiongraft.html import html_table
from visiongraft.plugins.classification.rules import decided
from visiongraft.task_contract.narrowing import ScoreThreshold, least_score

SHOWN = 5  # classes of a prediction in a notebook


@dataclass(frozen=True)
class Classified:
    """The prediction of a single-label model for one image.

    Attributes:
        label: Name of the most probable class.
        score: Its probability, in 0..1.
        probabilities: Probability by class name, in the order of the class ids; they sum to 1.
    """

    label: str
    score: float
    probabilities: dict[str, float]

    def narrowed(self, score_threshold: ScoreThreshold | None, top: int | None) -> Classified:
        """Return the most probable classes of at least a probability; the label stays.

        Examples:
            >>> Classified("cat", 0.7, {"cat": 0.7, "dog": 0.2, "cow": 0.1}).narrowed(None, 2).probabilities
            {'cat': 0.7, 'dog': 0.2}
        """
        return Classified(self.label, self.score, _surest(self.probabilities, score_threshold, top))

    def by_group(self, rules: Mapping[str, Any], group: str, draw: float) -> Classified:
        """Return the class that the rule of a group decides for; see ``rules.decided``."""
        positive = str(rules.get("positive"))
        if decided(rules, group, self.probabilities, draw):
            label = positive
        else:
            others = {name: p for name, p in self.probabilities.items() if name != positive}
            label = max(others, key=others.__getitem__, default=positive)
        return Classified(label, self.probabilities[label], self.probabilities)

    def _repr_html_(self) -> str:
        return _shown(self.label, self.probabilities)


@dataclass(frozen=True)
class MultiClassified:
    """The prediction of a multi-label model for one image.

    Attributes:
        labels: Names of the classes with a probability of at least 0.5, sorted by probability;
            may be empty.
        probabilities: Probability by class name, in the order of the class ids.
    """

    labels: tuple[str, ...]
    probabilities: dict[str, float]

    def narrowed(self, score_threshold: ScoreThreshold | None, top: int | None) -> MultiClassified:
        """Return the classes of at least a probability as the labels, and the most probable of them.

        Examples:
            >>> MultiClassified(("cat",), {"cat": 0.7, "dog": 0.2}).narrowed(0.1, None).labels
            ('cat', 'dog')
        """
        kept = _surest(self.probabilities, score_threshold, top)
        labels = self.labels if score_threshold is None else tuple(kept)
        return MultiClassified(tuple(name for name in labels if name in kept), kept)

    def by_group(self, rules: Mapping[str, Any], group: str, draw: float) -> MultiClassified:
        """Return the classes with or without that which the rule of a group decides on; see ``rules.decided``."""
        positive = rules.get("positive")
        kept = {name for name in self.labels if name != positive}
        if decided(rules, group, self.probabilities, draw):
            kept.add(str(positive))
        labels = sorted(kept, key=lambda name: -self.probabilities[name])
        return MultiClassified(tuple(labels), self.probabilities)

    def _repr_html_(self) -> str:
        return _shown(", ".join(self.labels) or "no class", self.probabilities)


def predictions(
    arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]
) -> list[Classified | MultiClassified]:
    """Convert a batch of decoded outputs to predictions.

    Args:
        arrays: ``probabilities``, float (N, C), and ``labels``, int64 (N,) class ids or, of a
            multi-label model, (N, C) of 0 and 1.
        metadata: ``class_names``, the C class names, and ``multi_label``.

    Returns:
        One prediction per image.

    Raises:
        ArtifactError: The arrays do not match the class names.

    Examples:
        >>> arrays = {"probabilities": np.array([[0.25, 0.75]]), "labels": np.array([1])}
        >>> predictions(arrays, {"class_names": ["cat", "dog"], "multi_label": False})
        [Classified(label='dog', score=0.75, probabilities={'cat': 0.25, 'dog': 0.75})]
    """
    names = list(metadata["class_names"])
    probabilities, decisions = arrays["probabilities"], arrays["labels"]
    multi_label = bool(metadata["multi_label"])
    expected = probabilities.shape if multi_label else probabilities.shape[:1]
    if probabilities.shape[1:] != (len(names),) or decisions.shape != expected:
        raise ArtifactError(
            f"the model returns probabilities {probabilities.shape} and labels {decisions.shape} "
            f"for {len(names)} class names; its file or folder is damaged"
        )
    invalid = decisions[(decisions < 0) | (decisions >= (2 if multi_label else len(names)))]
    if invalid.size:
        raise ArtifactError(
            f"the model returns {'the label value' if multi_label else 'class id'} {invalid[0]} "
            f"for {len(names)} class names; its file or folder is damaged"
        )
    make = _multi_label if multi_label else _single_label
    return [
        make(names, [float(p) for p in row], decided)
        for row, decided in zip(probabilities, decisions, strict=True)
    ]


def _single_label(names: Sequence[str], row: Sequence[float], decided: Any) -> Classified:
    return Classified(names[int(decided)], row[int(decided)], dict(zip(names, row, strict=True)))


def _multi_label(names: Sequence[str], row: Sequence[float], decided: Any) -> MultiClassified:
    chosen = sorted(np.flatnonzero(decided).tolist(), key=lambda i: -row[i])
    return MultiClassified(tuple(names[i] for i in chosen), dict(zip(names, row, strict=True)))


def _surest(
    probabilities: Mapping[str, float], score_threshold: ScoreThreshold | None, top: int | None
) -> dict[str, float]:
    """Keep classes of at least a probability, the most probable first."""
    found = sorted(probabilities.items(), key=lambda item: -item[1])
    return dict([item for item in found if item[1] >= least_score(score_threshold, item[0])][:top])


def _shown(caption: str, probabilities: Mapping[str, float]) -> str:
    """Return the most probable classes as a table for notebooks."""
    return html_table(
        ["class", "probability"], _surest(probabilities, None, SHOWN).items(), caption
    )
