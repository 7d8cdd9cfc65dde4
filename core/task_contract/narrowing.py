"""Keep the surest part of predictions, as far as their type can do so."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from visiongraft.errors import OptionError, near_matches
from visiongraft.options import is_integer, is_number

ScoreThreshold = float | Mapping[str, float]

OTHERS = "*"  # stands for all classes that a threshold by class does not name


def check_narrowing(
    score_threshold: ScoreThreshold | None, top: int | None, class_names: Collection[str] = ()
) -> None:
    """Refuse values that nothing could have.

    Args:
        score_threshold: Least score, or least scores by class.
        top: How many to keep.
        class_names: Names of all classes, if they are known.

    Raises:
        OptionError: A threshold is not within 0 and 1 or of an unknown class, or ``top`` is not a positive
            integer.
    """
    by_class = (
        score_threshold if isinstance(score_threshold, Mapping) else {OTHERS: score_threshold}
    )
    for name, value in by_class.items():
        of = "" if name == OTHERS else f" of class {name!r}"
        if value is not None and not (is_number(value) and 0 <= value <= 1):
            raise OptionError(f"score_threshold={value!r}{of} is not within 0 and 1")
        if of and class_names and name not in class_names:
            raise OptionError(
                f"score_threshold names class {name!r}, which the model does not have"
                f"{near_matches(str(name), class_names)}"
            )
    if top is not None and not is_integer(top, 1):
        raise OptionError(f"top={top!r} is not an integer of at least 1")


def least_score(score_threshold: ScoreThreshold | None, label: str) -> float:
    """Return the least score of a class.

    Examples:
        >>> least_score({"dog": 0.3, "*": 0.5}, "dog"), least_score({"dog": 0.3}, "cat")
        (0.3, 0.0)
    """
    if isinstance(score_threshold, Mapping):
        return score_threshold.get(label, score_threshold.get(OTHERS, 0.0))
    return score_threshold or 0.0


def narrowed(prediction: Any, score_threshold: ScoreThreshold | None, top: int | None) -> Any:
    """Return a prediction without what is less sure.

    Args:
        prediction: One with a method ``narrowed(score_threshold, top)``, which returns such a prediction.
        score_threshold: Least score or probability, or least ones by class; ``None`` for any.
        top: How many objects or classes to keep; ``None`` for all.

    Raises:
        OptionError: The prediction has no scores.
    """
    if score_threshold is None and top is None:
        return prediction
    own = getattr(prediction, "narrowed", None)
    if not callable(own):
        raise OptionError(
            f"predictions of type {type(prediction).__name__} have no scores; leave out score_threshold and top"
        )
    return own(score_threshold, top)
