"""What evidence trainings say: accuracies and differences with intervals, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from visiongraft.advice.recommending import HEDGES, LITTLE, Recommendation
from visiongraft.errors import name_some
from visiongraft.training.measuring.intervals import wilson
from visiongraft.training.measuring.margins import Estimate

HEAD, LAST, ALL = "head", "last stages", "all stages"  # of the pretrained network, by rising cost
SCRATCH = "small network from scratch"
VERDICTS = {
    HEAD: "a probe is enough",
    LAST: "fine-tune the last stages",
    ALL: "fine-tune all stages",
}
UNDECIDED, NO_TRANSFER = "cannot distinguish", "from scratch is better"
NORMAL = 1.96  # standard errors of an interval of 95 %

Rights = NDArray[np.bool_]


@dataclass(frozen=True)
class Trained:
    """One evidence training.

    Attributes:
        what: What it trained: one of the names above.
        schedule: The schedule of ``fit`` that trains like that.
        epochs: Number of epochs; ``None`` in closed form.
        right: bool (N,), whether each image was predicted right by a training that had not seen it.
    """

    what: str
    schedule: str
    epochs: int | None
    right: Rights


@dataclass(frozen=True)
class Trial:
    """An evidence training as it is reported.

    Attributes:
        what: What it trained.
        schedule: The schedule of ``fit`` that trains like that.
        epochs: Number of epochs; ``None`` in closed form.
        accuracy: Fraction of the images that were predicted right.
        gain: Its accuracy minus that of the head alone.
    """

    what: str
    schedule: str
    epochs: int | None
    accuracy: Estimate
    gain: Estimate

    def __str__(self) -> str:
        """Describe the training in a few words."""
        found = self.accuracy
        how = "closed form" if self.epochs is None else f"{self.epochs} epochs"
        return f"{self.what} {found.value:.1%} ({found.low:.1%} to {found.high:.1%}; {how})"


@dataclass(frozen=True)
class Evidence:
    """What evidence trainings found, and what follows.

    Attributes:
        images: Number of images that were predicted.
        trials: The trainings.
        left_out: Why others were not tried.
        verdict: One of ``VERDICTS``, ``UNDECIDED`` or ``NO_TRANSFER``.
        recommendation: The schedule to train with, and why; ``None`` without a verdict.
    """

    images: int
    trials: tuple[Trial, ...]
    left_out: dict[str, str]
    verdict: str
    recommendation: Recommendation | None

    def lines(self) -> list[str]:
        """Describe the evidence, one line each."""
        trained = "; ".join(map(str, self.trials))
        return [
            *([] if self.recommendation is None else [str(self.recommendation)]),
            *(
                [
                    f"trained on two thirds of {self.images} images and evaluated on the others: {trained}"
                ]
                if trained
                else []
            ),
            *(f"not tried, {what}: {reason}" for what, reason in self.left_out.items()),
        ]


def conclude(trained: Sequence[Trained], left_out: Mapping[str, str]) -> Evidence:
    """Draw conclusions from evidence trainings.

    A cheaper training is enough if the intervals of what the others gain over it end below 2 points. One is
    better than another if the interval of their difference is above 0. The intervals hold the choice of the
    images, and not other random numbers of a training. Where no training is better than all others, one from
    scratch is recommended if it is ahead of all and better than the first, which uses the frozen features: they
    hold less about these classes than a small network finds by itself.

    Args:
        trained: The trainings; those that start from pretrained weights are compared with the first of them.
        left_out: Why others were not tried.

    Returns:
        The evidence, without a verdict unless two trainings start from pretrained weights.
    """
    pretrained = sorted(
        (each for each in trained if each.what != SCRATCH),
        key=lambda t: (HEAD, LAST, ALL).index(t.what),
    )
    if not pretrained:  # there was no time
        return Evidence(0, (), dict(left_out), "", None)
    scratch = next((each for each in trained if each.what == SCRATCH), None)
    trials = tuple(
        Trial(
            t.what,
            t.schedule,
            t.epochs,
            proportion(t.right),
            difference(t.right, pretrained[0].right),
        )
        for t in trained
    )
    images = len(trained[0].right)
    if len(pretrained) < 2:
        return Evidence(images, trials, dict(left_out), "", None)
    verdict, recommendation = _among(pretrained, left_out)
    if scratch is not None:
        gains = [difference(scratch.right, each.right) for each in pretrained]
        least = min(gains, key=lambda gain: gain.low)
        if least.low > 0:
            verdict, recommendation = NO_TRANSFER, _from_scratch(scratch, least, left_out)
        elif gains[0].low > 0 and all(gain.value > 0 for gain in gains):
            verdict, recommendation = UNDECIDED, _scratch_ahead(scratch, pretrained[0], gains[0])
        elif _tied(scratch, pretrained):
            recommendation = replace(
                recommendation,
                reason=f"{recommendation.reason}; {UNDECIDED} pretrained weights from a {SCRATCH}",
            )
    return Evidence(images, trials, dict(left_out), verdict, recommendation)


def proportion(right: Rights) -> Estimate:
    """Return a fraction with its interval (Wilson, 1927).

    Examples:
        >>> found = proportion(np.array([True] * 9 + [False]))
        >>> round(found.low, 2), round(found.high, 2)
        (0.6, 0.98)
    """
    return interval_of(float(right.mean()), len(right))


def interval_of(value: float, count: int) -> Estimate:
    """Return a fraction of some images with its interval (Wilson, 1927).

    Args:
        value: The fraction.
        count: The number of images.

    Examples:
        >>> round(interval_of(1.0, 16).low, 2)
        0.81
    """
    return Estimate(value, *wilson(value, count, NORMAL))


def difference(right: Rights, other: Rights) -> Estimate:
    """Return the difference of two fractions of the same images with its interval (Bonett and Price, 2012).

    Examples:
        >>> one, other = np.array([True] * 20), np.array([True] * 12 + [False] * 8)
        >>> found = difference(one, other)
        >>> round(found.value, 2), round(found.low, 2), round(found.high, 2)
        (0.4, 0.13, 0.6)
    """
    count = len(right)
    only, only_other = int((right & ~other).sum()), int((other & ~right).sum())
    more, less = (only + 1) / (count + 2), (only_other + 1) / (count + 2)
    spread = NORMAL * float(np.sqrt((more + less - (more - less) ** 2) / (count + 2)))
    value = (only - only_other) / count
    return Estimate(value, more - less - spread, more - less + spread)


def _from_scratch(scratch: Trained, gain: Estimate, left_out: Mapping[str, str]) -> Recommendation:
    hurts = "frozen features do not help" if ALL in left_out else "transfer hurts"
    reason = f"{hurts}: {NO_TRANSFER}; {_more(gain, 'any training of the pretrained network')}"
    return Recommendation(scratch.schedule, reason, pretrained=False)


def _scratch_ahead(scratch: Trained, first: Trained, gain: Estimate) -> Recommendation:
    reason = (
        f"{UNDECIDED} pretrained weights from a {SCRATCH}, which is ahead of all and better than the "
        f"pretrained network's {first.what}; {_more(gain, 'that')}"
    )
    return Recommendation(scratch.schedule, reason, pretrained=False)


def _more(gain: Estimate, other: str) -> str:
    return (
        f"a {SCRATCH} is right for {_interval(gain)} more of the images than {other}; pass weights=None, or "
        "another backbone"
    )


def _among(
    pretrained: Sequence[Trained], left_out: Mapping[str, str]
) -> tuple[str, Recommendation]:
    """Choose among at least two trainings of the pretrained network, which come by rising cost."""
    gains = [
        [difference(later.right, each.right) for later in pretrained[position + 1 :]]
        for position, each in enumerate(pretrained)
    ]
    enough = next(i for i, own in enumerate(gains) if all(gain.high <= LITTLE for gain in own))
    chosen = pretrained[enough]
    tied = [
        each
        for each, own in zip(pretrained[:enough], gains, strict=False)
        if all(gain.low <= 0 for gain in own)
    ]
    if tied:
        return UNDECIDED, _undecided([*tied, chosen], left_out)
    if chosen.what == HEAD:
        most = max(gain.high for gain in gains[0])
        reason = f"{VERDICTS[HEAD]}; training more gains {max(most, 0):.1%} of the images at most"
        return VERDICTS[HEAD], Recommendation(chosen.schedule, reason)
    gain = difference(chosen.right, pretrained[0].right)
    reason = (
        f"{VERDICTS[chosen.what]}; that gains {_interval(gain)} of the images over the head alone"
    )
    return VERDICTS[chosen.what], Recommendation(chosen.schedule, reason)


def _undecided(tied: Sequence[Trained], left_out: Mapping[str, str]) -> Recommendation:
    gain = difference(tied[-1].right, tied[0].right)
    reason = (
        f"cannot distinguish {name_some([each.what for each in tied], 3)}: the difference is "
        f"{_interval(gain)} of the images"
    )
    if ALL in (tied[-1].what, *left_out):
        return Recommendation("lp_ft", f"{reason}; this schedule {HEDGES['lp_ft']}")
    best = max(tied, key=lambda each: each.right.mean())
    return Recommendation(best.schedule, f"{reason}; {best.what} is ahead")


def _tied(scratch: Trained, pretrained: Sequence[Trained]) -> bool:
    best = max(pretrained, key=lambda each: each.right.mean())
    return difference(best.right, scratch.right).low <= 0


def _interval(found: Estimate) -> str:
    return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"
