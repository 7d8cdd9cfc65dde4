"""Keep the surest part of predictions, as far as their type can do so."""

from __future__ import annotations

from typing import Any

from visiongraft.errors import OptionError
from visiongraft.options import is_integer, is_number


def check_narrowing(score_threshold: float | None, top: int | None) -> None:
    """Refuse values that nothing could have.

    Raises:
        OptionError: The threshold is not within 0 and 1, or ``top`` is not a positive integer.
    """
    if score_threshold is not None and not (
        is_number(score_threshold) and 0 <= score_threshold <= 1
    ):
        raise OptionError(f"score_threshold={score_threshold!r} is not within 0 and 1")
    if top is not None and not is_integer(top, 1):
        raise OptionError(f"top={top!r} is not an integer of at least 1")


def narrowed(prediction: Any, score_threshold: float | None, top: int | None) -> Any:
    """Return a prediction without what is less sure.

    Args:
        prediction: One with a method ``narrowed(score_threshold, top)``, which returns such a prediction.
        score_threshold: Least score or probability; ``None`` for any.
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
