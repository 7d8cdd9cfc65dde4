"""Scores that read nothing of the dataset: what every other scorer has to beat."""

from __future__ import annotations

from typing import ClassVar

from visiongraft.errors import OptionError
from visiongraft.scorers import Scorer, ScorerInput


class Parameters(Scorer):
    """Number of parameters of the backbone: larger backbones often transfer better."""

    name: ClassVar[str] = "parameters"

    def score(self, given: ScorerInput) -> float:
        """Return the number."""
        return float(given.parameters)


class PublishedAccuracy(Scorer):
    """Accuracy on its own dataset that the source of the backbone publishes with the weights.

    It is known for the weights of torchvision. Other backbones cannot be scored: timm's package does not
    contain its results.
    """

    name: ClassVar[str] = "published_accuracy"
    bounds: ClassVar[tuple[float, float]] = (0, 1)

    def score(self, given: ScorerInput) -> float:
        """Return the accuracy in 0..1."""
        known = given.provenance.get("accuracy")
        if known is None:
            raise OptionError(f"no published accuracy of {given.backbone!r} is known here")
        return float(known.split()[0])
