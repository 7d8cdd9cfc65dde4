"""Backbones ranked by scorers, with intervals and ties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from visiongraft.advice.candidates import Candidate, Embedded
from visiongraft.errors import OptionError, name_some
from visiongraft.scorers import ClassIds, ScorerChoice, ScorerInput
from visiongraft.seeds import mix_seed

HALVES = 20  # half samples of each interval
NORMAL = 1.96  # standard errors of an interval of 95 %


@dataclass(frozen=True)
class Score:
    """The score of one backbone by one scorer.

    Attributes:
        value: The score on all images; higher is better. ``None`` if the scorer refused the backbone.
        low: Lower end of its interval of 95 %.
        high: Upper end.
        tied: Whether its difference from the best score is within the interval of that difference.
        refused: Why there is no score.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    tied: bool = False
    refused: str = ""


@dataclass(frozen=True)
class RankedBackbone:
    """A backbone with its scores and its cost.

    Attributes:
        name: Its name.
        parameters: Number of parameters.
        dimension: Length of its embedding.
        seconds: Time per image to compute the embedding, reading included.
        scores: By scorer.
    """

    name: str
    parameters: int
    dimension: int
    seconds: float
    scores: dict[str, Score] = field(default_factory=dict)


def rank(
    inputs: Sequence[ScorerInput], seconds: Sequence[float], scorers: Sequence[ScorerChoice]
) -> list[RankedBackbone]:
    """Score backbones on the same images.

    Intervals come from half samples without replacement, the same ones for all backbones: the deviation
    of a score between them estimates its standard error (delete-d jackknife with d = N / 2; Shao and
    Wu, 1989). A bootstrap would repeat images, and leave neighbors and probes a copy of what they
    leave out.

    Args:
        inputs: The features of each backbone, with equal labels.
        seconds: Time per image of each backbone.
        scorers: At least one.

    Returns:
        The backbones; the best by the first scorer comes first, those that it refused last.
    """
    halves = half_samples(inputs[0].labels, inputs[0].seed)
    columns = {str(scorer): _scores(scorer, inputs, halves) for scorer in scorers}
    ranked = [
        RankedBackbone(
            given.backbone,
            given.parameters,
            given.features.shape[1],
            seconds[i],
            {name: column[i] for name, column in columns.items()},
        )
        for i, given in enumerate(inputs)
    ]
    first = str(scorers[0])
    return sorted(ranked, key=lambda each: -_comparable(each.scores[first]))


def unscored(candidate: Candidate, embedded: Embedded) -> RankedBackbone:
    """Return a backbone without scores, for images that nothing is known of to score it by."""
    dimension = embedded.features.shape[1]
    return RankedBackbone(candidate.name, candidate.parameters, dimension, embedded.seconds)


def half_samples(labels: ClassIds, seed: int) -> list[NDArray[np.intp]]:
    """Choose half of the images of each class at random, at least one, several times.

    Args:
        labels: int64 (N,).
        seed: Seed of the choice.

    Returns:
        Positions, ascending.
    """
    generator = np.random.Generator(np.random.PCG64(mix_seed(seed, "half samples")))
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return [
        np.sort(
            np.concatenate(
                [generator.permutation(each)[: (len(each) + 1) // 2] for each in members]
            )
        )
        for _ in range(HALVES)
    ]


def describe_ranking(ranked: Sequence[RankedBackbone]) -> list[str]:
    """Describe in words which backbones can be distinguished, one line per scorer.

    Of a single backbone only scorers without a score are described.
    """
    scorers = ranked[0].scores
    if len(ranked) == 1:
        scorers = {name: score for name, score in scorers.items() if score.value is None}
    return [_describe(scorer, ranked) for scorer in scorers]


def _scores(
    scorer: ScorerChoice, inputs: Sequence[ScorerInput], halves: Sequence[NDArray[np.intp]]
) -> list[Score]:
    """Score all backbones by one scorer."""
    values, spread, refused = {}, {}, {}
    for i, given in enumerate(inputs):
        try:
            values[i] = scorer.score(given)
            spread[i] = np.array([scorer.score(given.subset(half)) for half in halves])
        except OptionError as error:
            values.pop(i, None)
            refused[i] = str(error)
    best = max(values, key=lambda i: values[i], default=None)
    scores = []
    for i in range(len(inputs)):
        if i in refused or best is None:
            scores.append(Score(refused=refused[i]))
            continue
        margin = NORMAL * float(spread[i].std(ddof=1))
        gap = NORMAL * float((spread[best] - spread[i]).std(ddof=1))
        tied = values[best] - values[i] <= gap
        low, high = np.clip([values[i] - margin, values[i] + margin], *scorer.scorer.bounds)
        scores.append(Score(values[i], float(low), float(high), tied))
    return scores


def _comparable(score: Score) -> float:
    return -np.inf if score.value is None else score.value


def _describe(scorer: str, ranked: Sequence[RankedBackbone]) -> str:
    known = sorted(
        (each for each in ranked if each.scores[scorer].value is not None),
        key=lambda each: -_comparable(each.scores[scorer]),
    )
    if not known:
        return f"{scorer}: no score, {ranked[0].scores[scorer].refused}"
    if len(known) == 1:
        return f"{scorer}: only {known[0].name} has a score"
    tied = [each.name for each in known if each.scores[scorer].tied]
    if len(tied) == 1:
        return f"{scorer}: {tied[0]} is best"
    return (
        f"{scorer}: cannot distinguish {name_some(tied, 5)}; prefer the one that costs least, or pass "
        "more images"
    )
