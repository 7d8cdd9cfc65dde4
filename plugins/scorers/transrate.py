"""TransRate: how many more bits the features of all images take than those of single classes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from visiongraft.errors import OptionError
from visiongraft.options import is_number
from visiongraft.scorers import Floats, Scorer, ScorerInput


class TransRate(Scorer):
    """TransRate: mutual information of features and labels by coding rates (Huang et al., 2022).

    ``R(Z) - sum over classes c of N_c / N R(Z_c)`` with the coding rate
    ``R(Z) = 1/2 ln det(I + Z^T Z / (N eps))`` of the centered features ``Z`` (N, D). The scale of the
    features matters, so that backbones whose features have other scales are hard to compare.

    Args:
        eps: Squared precision of the code.
    """

    name: ClassVar[str] = "transrate"

    def __init__(self, *, eps: float = 1e-4) -> None:
        if not is_number(eps) or eps <= 0:
            raise OptionError(f"eps={eps!r} is not a positive number")
        self.eps = eps

    def score(self, given: ScorerInput) -> float:
        """Compute the difference of the coding rates."""
        centered = given.features - given.features.mean(0)
        within = 0.0
        for label in range(given.classes):
            own = centered[given.labels == label]
            within += len(own) / len(centered) * _rate(own, self.eps)
        return _rate(centered, self.eps) - within


def _rate(rows: Floats, eps: float) -> float:
    """Return the coding rate, from the smaller of both Gram matrices."""
    gram = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    return float(np.linalg.slogdet(np.eye(len(gram)) + gram / (len(rows) * eps))[1]) / 2
