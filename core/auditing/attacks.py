"""Membership inference: scores of images, and how well they tell members from others; numpy only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.seeds import mix_seed

Floats = NDArray[np.float64]

DRAWS = 1000
LOW_RATE = 0.01  # of false positives, at which strong attacks are compared
SMALLEST = 1e-6


@dataclass(frozen=True)
class Attack:
    """How well an attack tells the training images of a model from others.

    Attributes:
        name: ``"loss"``, ``"lira"`` or ``"canaries"``.
        auc: Area under the ROC curve: 0.5 for guessing.
        low: Lower end of its interval of 95 %, by a bootstrap over images.
        high: Upper end.
        advantage: Largest difference of true and false positive rate.
        found_at_low_rate: True positive rate at a false positive rate of 1 %.
    """

    name: str
    auc: float
    low: float
    high: float
    advantage: float
    found_at_low_rate: float

    def to_json(self) -> dict[str, Any]:
        """Return all fields by name."""
        return asdict(self)


def judge(name: str, members: Floats, others: Floats, seed: int = 0) -> Attack:
    """Judge the scores of an attack.

    Args:
        name: Name of the attack.
        members: Scores of training images; higher means that the attack takes them for members.
        others: Scores of other images.
        seed: Seed of the bootstrap.

    Returns:
        How well it does.

    Examples:
        >>> judge("loss", np.array([2.0, 3.0]), np.array([0.0, 1.0])).auc
        1.0
    """
    generator = np.random.default_rng(mix_seed(seed, "attack"))
    drawn = [
        area(generator.choice(members, len(members)), generator.choice(others, len(others)))
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    cuts = np.unique(np.concatenate([members, others]))
    found = np.array([(members >= cut).mean() for cut in cuts])
    wrong = np.array([(others >= cut).mean() for cut in cuts])
    return Attack(
        name,
        area(members, others),
        float(low),
        float(high),
        float((found - wrong).max(initial=0.0)),
        float(found[wrong <= LOW_RATE].max(initial=0.0)),
    )


def area(members: Floats, others: Floats) -> float:
    """Return the area under the ROC curve: how often a member has the higher score; ties count half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, members, "left") + np.searchsorted(ordered, members, "right")
    return float(below.mean() / (2 * len(others)))


def confidence(losses: Floats) -> Floats:
    """Return what LiRA models as Gaussian: the logit of exp(-loss), the confidence in the right answer."""
    return np.asarray(-np.log(np.expm1(np.clip(losses, SMALLEST, 50.0))))


def likelihood_ratios(target: Floats, shadows: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Return LiRA's scores (Carlini et al., 2022, "Membership Inference Attacks From First Principles").

    Args:
        target: (N,), confidence of the attacked model in each image.
        shadows: (K, N), that of models which were trained on random halves of the images.
        inside: (K, N), which images each of these was trained on; each image in some and not in others.

    Returns:
        (N,), log likelihood ratios of having been in training. Variances are common to all images, as the paper
        advises for few shadow models.
    """
    weights_in, weights_out = inside.astype(float), (~inside).astype(float)
    means = []
    spreads = []
    for weights in (weights_in, weights_out):
        mean = (shadows * weights).sum(0) / weights.sum(0)
        means.append(mean)
        spreads.append(np.sqrt(((shadows - mean) ** 2 * weights).sum() / weights.sum()) + SMALLEST)
    inside_density, outside_density = (
        -0.5 * ((target - mean) / spread) ** 2 - np.log(spread)
        for mean, spread in zip(means, spreads, strict=True)
    )
    return np.asarray(inside_density - outside_density)


def permitted_area(epsilon: float, delta: float) -> float:
    """Return the largest area under the ROC curve that (epsilon, delta) differential privacy permits.

    Args:
        epsilon: Privacy budget.
        delta: Probability of a failure.

    Examples:
        >>> permitted_area(0, 0), round(permitted_area(1, 0), 3)
        (0.5, 0.731)
    """
    wrong = np.linspace(0, 1, 100_001)
    missed = np.maximum(1 - delta - np.exp(epsilon) * wrong, np.exp(-epsilon) * (1 - delta - wrong))
    return round(float(1 - np.trapezoid(np.clip(missed, 0, None), wrong)), 6)
