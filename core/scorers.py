"""Scorers: how well a backbone's features fit a labeled dataset, computed before any training.

A scorer sees the embeddings that a backbone computes of some images, their class ids, and what else is
known about the backbone. Its scores rank backbones on one dataset; they have no absolute meaning.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from visiongraft.errors import (
    DataError,
    OptionError,
    PluginError,
    VisiongraftError,
    type_and_message,
)
from visiongraft.options import is_number

Floats = NDArray[np.float64]
ClassIds = NDArray[np.int64]


@dataclass(frozen=True)
class ScorerInput:
    """What a scorer is given of one backbone on one dataset; it must not change the arrays.

    Attributes:
        backbone: Name of the backbone, for messages.
        features: float64 (N, D), the embedding of each image.
        labels: int64 (N,), one class id per image; each of 0..C-1 occurs.
        source_probabilities: float64 (N, S), what the head that the backbone was trained with predicts
            for each image, rows sum to 1; ``None`` if there is no such head.
        parameters: Number of parameters of the backbone.
        provenance: Where the weights came from, see ``BackboneInfo.provenance``.
        seed: For scorers that draw random numbers.

    Raises:
        DataError: There are fewer than two classes or features that are not finite.
        OptionError: The arrays do not fit together.
    """

    backbone: str
    features: Floats
    labels: ClassIds
    source_probabilities: Floats | None = None
    parameters: int = 0
    provenance: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        count = len(self.labels)
        if self.features.ndim != 2 or len(self.features) != count or not self.features.shape[1]:
            raise OptionError(
                f"features of shape {self.features.shape} do not belong to {count} labels; expected "
                "(images, features)"
            )
        if count and not np.array_equal(np.unique(self.labels), range(int(self.labels.max()) + 1)):
            raise OptionError("labels are not class ids 0, 1, ... that all occur")
        if self.classes < 2:
            raise DataError(
                "a backbone can be scored on images of at least two classes only; add images of "
                "another class"
            )
        if not np.isfinite(self.features).all():
            raise DataError(
                f"backbone {self.backbone!r} computes features that are not finite for some images; its "
                "weights are damaged, or it needs another preprocessing"
            )
        _check_probabilities(self.source_probabilities, count)

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return int(self.labels.max()) + 1 if len(self.labels) else 0

    def subset(self, indices: Sequence[int] | NDArray[np.intp]) -> ScorerInput:
        """Return some of the images, among which are images of every class."""
        chances = self.source_probabilities
        return replace(
            self,
            features=self.features[indices],
            labels=self.labels[indices],
            source_probabilities=None if chances is None else chances[indices],
        )


class Scorer(ABC):
    """Base of scorers; options are the constructor's keywords.

    Attributes:
        name: The name by which users select the scorer.
        needs_source_head: Whether it reads ``source_probabilities``. A backbone that comes without its
            head is not scored then.
        bounds: Lowest and highest possible score, such as 0 and 1 for an accuracy; intervals end there.

    Example:
        ::

            class Spread(Scorer):
                name = "spread"

                def score(self, given):
                    return float(given.features.std(0).mean())
    """

    name: ClassVar[str]
    needs_source_head: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (-np.inf, np.inf)

    @abstractmethod
    def score(self, given: ScorerInput) -> float:
        """Compute the score of one backbone.

        The order of the images and the numbers of the classes must not matter, and the same input must
        always have the same score.

        Args:
            given: Features, class ids and facts about the backbone.

        Returns:
            A finite number; higher is better.

        Raises:
            OptionError: Such a backbone or dataset cannot be scored; the message tells why.
        """


@dataclass(frozen=True)
class ScorerChoice:
    """A scorer and the options that a user set.

    Attributes:
        name: By which the scorer was found.
        scorer: The scorer.
        options: Keywords of its constructor.
    """

    name: str
    scorer: Scorer
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        words = ", ".join(f"{option}={value!r}" for option, value in self.options.items())
        return f"{self.name}({words})" if words else self.name

    def score(self, given: ScorerInput) -> float:
        """Compute the score of one backbone, and check that it is one.

        Args:
            given: The input.

        Returns:
            A finite number; higher is better.

        Raises:
            OptionError: The backbone cannot be scored, such as one without a source head.
            PluginError: The scorer failed, or returned something else than a finite number.
        """
        what = f"scorer {self.name!r}"
        if self.scorer.needs_source_head and given.source_probabilities is None:
            raise OptionError(
                f"{what} needs the head that the backbone was trained with, and {given.backbone!r} "
                "comes without one"
            )
        try:
            value: object = self.scorer.score(given)
        except VisiongraftError:
            raise
        except Exception as error:  # a third-party scorer may raise any error
            raise PluginError(f"{what} failed: {type_and_message(error)}") from error
        if not is_number(value):
            raise PluginError(f"{what} returned {value!r} for {given.backbone!r}, not a number")
        return float(value)


def _check_probabilities(chances: Floats | None, count: int) -> None:
    if chances is None:
        return
    shaped = chances.ndim == 2 and len(chances) == count and chances.shape[1] > 0
    if not shaped or not (chances >= 0).all() or not np.allclose(chances.sum(1), 1, atol=1e-4):
        raise OptionError(
            "source_probabilities are not probabilities (images, source classes) whose rows sum to 1; "
            "apply a softmax to logits"
        )
