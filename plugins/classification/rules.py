"""Rules by which the class of an image is decided, one for each group. Imports numpy only: deployed models use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.errors import ArtifactError

Floats = NDArray[np.float64]

PLAIN = 0.5


@dataclass(frozen=True)
class Rule:
    """How a group is decided: with some probability by one threshold, otherwise by another, or at random.

    Attributes:
        probabilities: Of using each threshold.
        thresholds: The class is predicted for a higher score or, where ``above`` is false, for a lower one.
        above: Of each threshold whether higher scores are predicted.
        ignored: Probability of not looking at the score.
        constant: Probability of predicting the class then.
    """

    probabilities: tuple[float, ...]
    thresholds: tuple[float, ...]
    above: tuple[bool, ...]
    ignored: float = 0.0
    constant: float = 0.0

    def chances(self, scores: Floats) -> Floats:
        """Return the probability of predicting the class for each score in 0..1.

        Examples:
            >>> Rule((1.0,), (0.5,), (True,)).chances(np.array([0.4, 0.6])).tolist()
            [0.0, 1.0]
        """
        found = np.zeros(len(scores))
        for p, threshold, above in zip(
            self.probabilities, self.thresholds, self.above, strict=True
        ):
            found += p * ((scores > threshold) if above else (scores < threshold))
        return self.ignored * self.constant + (1 - self.ignored) * found


PLAIN_RULE = Rule((1.0,), (PLAIN,), (True,))


def decided(
    rules: Mapping[str, Any], group: str, probabilities: Mapping[str, float], draw: float
) -> bool:
    """Decide whether an image has the class that rules are about.

    Args:
        rules: ``positive``, a class, and ``rules``, the fields of a ``Rule`` by name of the group; an unknown group has
            the plain threshold.
        group: Group of the image.
        probabilities: Probability by class.
        draw: A number in [0, 1) for decisions at random.

    Raises:
        ArtifactError: The rules are damaged, or about a class that is not predicted.

    Examples:
        >>> rule = {"probabilities": [1.0], "thresholds": [0.3], "above": [True]}
        >>> decided({"positive": "a", "rules": {"x": rule}}, "x", {"a": 0.4, "b": 0.6}, 0.5)
        True
    """
    positive, found = rules.get("positive"), rules["rules"].get(group)
    if positive not in probabilities:
        raise ArtifactError(
            f"thresholds by group are about class {positive!r}, which is not predicted; choose them anew"
        )
    try:
        rule = (
            PLAIN_RULE
            if found is None
            else Rule(**{f.name: found[f.name] for f in fields(Rule) if f.name in found})
        )
        chance = rule.chances(np.array([probabilities[str(positive)]]))[0]
    except (TypeError, ValueError, KeyError) as error:
        raise ArtifactError(
            f"the thresholds of group {group!r} are damaged; choose them anew"
        ) from error
    return bool(draw < chance)
