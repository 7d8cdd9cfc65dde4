"""LEEP and NCE: how well the classes that the source head predicts determine the class."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from visiongraft.advice.probes import one_hot
from visiongraft.scorers import Floats, Scorer, ScorerInput


class LEEP(Scorer):
    """LEEP: mean log likelihood of the labels by way of source classes (Nguyen et al., 2020).

    With the probabilities ``theta`` (N, S) that the source head predicts: ``P(y|z)`` is the sum of
    ``theta_iz`` over the images of class y, divided by that over all images, and the score is the mean
    over images of ``ln sum_z P(y_i|z) theta_iz``; at most 0. Source classes without any probability are
    left out.
    """

    name: ClassVar[str] = "leep"
    needs_source_head: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (-np.inf, 0)

    def score(self, given: ScorerInput) -> float:
        """Compute the mean log likelihood."""
        chances = _probabilities(given)
        chances = chances[:, chances.sum(0) > 0]
        relation = one_hot(given.labels).T @ chances / chances.sum(0)  # (C, S)
        likelihoods = (relation[given.labels] * chances).sum(1)
        return float(np.log(likelihoods).mean())


class NCE(Scorer):
    """NCE: negative conditional entropy of the label given the source class (Tran et al., 2019).

    ``-H(Y|Z) = sum over y, z of P(y, z) ln P(y|z)`` in nats, where ``z`` is the most probable source
    class of an image; at most 0.
    """

    name: ClassVar[str] = "nce"
    needs_source_head: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (-np.inf, 0)

    def score(self, given: ScorerInput) -> float:
        """Compute the negative conditional entropy."""
        _, found = np.unique(_probabilities(given).argmax(1), return_inverse=True)
        counts = one_hot(given.labels).T @ one_hot(found)  # (C, Z)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(counts > 0, np.log(counts / counts.sum(0)), 0)
        return float((counts * logs).sum() / len(found))


def _probabilities(given: ScorerInput) -> Floats:
    assert given.source_probabilities is not None  # what needs a source head is refused without one
    return given.source_probabilities
