"""A few numbers that stand for the results of one image, and words for how two results differ.

An exported file carries such numbers for the images that it was certified on, so that its results can
be checked where neither the model nor PyTorch is. Only numpy is imported.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.comparison import Arrays

Values = NDArray[np.float64]

SHOWN = 16  # results of at most so many values are kept whole
_SAMPLES, _PROJECTIONS = 8, 8
_PROJECTED = 4096  # values of a larger result that projections are made of
_STEP = 0.6180339887  # of a result's length, from one of these values to the next
_CHANGED = 0.001  # fraction of a large integer result, such as a mask, that rounding may change
_RELATIVE = 0.02  # by which changes may differ and still be the same change


def statistics_of(value: NDArray[Any]) -> tuple[str, ...]:
    """Name the numbers that ``summarize`` returns for a result.

    Examples:
        >>> statistics_of(np.zeros(2)), len(statistics_of(np.zeros((100, 4))))
        (('value 0', 'value 1'), 19)
    """
    if value.size <= SHOWN:
        return tuple(f"value {i}" for i in range(value.size))
    projections = tuple(f"projection {i}" for i in range(_PROJECTIONS))
    if value.dtype.kind != "f":
        return ("mean", *projections)
    values = tuple(f"value {i}" for i in _positions(value.size)[:_SAMPLES])
    return ("mean", "minimum", "maximum", *values, *projections)


def summarize(value: NDArray[Any]) -> Values:
    """Compute a few numbers that stand for the result of one image.

    A short result is kept whole. Of a longer one these are its mean, minimum and maximum, some of its
    values, and sums of values with random signs, which another order or a changed value alters.

    Args:
        value: The result, of any shape, float, integer or bool.

    Returns:
        float64, one number for each name in ``statistics_of(value)``.
    """
    flat = value.astype(np.float64).reshape(-1)
    if flat.size <= SHOWN:
        return flat
    chosen = flat[_positions(flat.size)]
    projections = _signs()[:, : len(chosen)] @ chosen / len(chosen) ** 0.5
    if value.dtype.kind != "f":
        return np.array([flat.mean(), *projections])
    return np.array([flat.mean(), flat.min(), flat.max(), *chosen[:_SAMPLES], *projections])


def accepted(value: NDArray[Any], tolerance: float) -> Values:
    """Return how far each number may be off, as runtimes round differently.

    Args:
        value: The result of one image.
        tolerance: For floats, relative to the largest absolute value.

    Returns:
        float64, one number for each of ``summarize(value)``.
    """
    count = len(statistics_of(value))
    largest = float(np.abs(value.astype(np.float64)).max()) if value.size else 0.0
    if value.dtype.kind == "f":
        return np.full(count, tolerance * max(largest, 1e-12))
    if value.size <= SHOWN:
        return np.full(count, 0.4)
    changed = max(3.0, _CHANGED * value.size)  # values of a class map that are near-ties
    mean = largest * changed / value.size
    projection = 4 * largest * (max(3.0, _CHANGED * min(value.size, _PROJECTED))) ** 0.5
    return np.array([mean, *[projection / min(value.size, _PROJECTED) ** 0.5] * _PROJECTIONS])


def describe_change(expected: Values, got: Values) -> str:
    """Describe how values differ from those expected, if it is the same change for all.

    Args:
        expected: The values to trust.
        got: As many others.

    Returns:
        The end of a message, such as ``"each value is larger by 1"``; empty if there is no rule.

    Examples:
        >>> a = np.array([10.0, 20.0, 40.0])
        >>> describe_change(a, a + 1), describe_change(a, a * 1.01)
        ('each value is larger by 1', 'each value is 1.01 times as large')
        >>> describe_change(a, a[::-1]), describe_change(a, np.array([1.0, 5.0, 2.0]))
        ('the values are in another order', '')
    """
    if len(expected) < 2 or not (np.isfinite(expected).all() and np.isfinite(got).all()):
        return ""
    change = got - expected
    if _is_same(change):
        word = "larger" if change[0] > 0 else "smaller"
        return f"each value is {word} by {abs(change.mean()):.4g}"
    large = np.abs(expected) > 1e-3 * np.abs(expected).max()
    if large.sum() > 1 and not change[~large].any():
        ratios = got[large] / expected[large]
        if _is_same(ratios) and _is_same(ratios - 1):
            return f"each value is {ratios.mean():.4g} times as large"
    spread = float(np.abs(change).max())
    if float(np.abs(np.sort(got) - np.sort(expected)).max()) < 1e-3 * spread:
        return "the values are in another order"
    return ""


def describe_difference(expected: Arrays, found: Arrays) -> str:
    """Describe where the results of one image differ most.

    Args:
        expected: The results to trust, by name.
        found: The others.

    Returns:
        A part of a message, for the first result that differs by more than rounding.

    Examples:
        >>> a = {"scores": np.ones((1, 2)), "boxes": np.array([[1.0, 5.0, 9.0]])}
        >>> describe_difference(a, {**a, "boxes": a["boxes"] + 1})
        'boxes: 2 instead of 1 (each value is larger by 1)'
    """
    for name, value in expected.items():
        if name not in found or found[name].shape != value.shape:
            return f"{name} is missing or has another shape"
        one, other = (v.astype(np.float64).reshape(-1) for v in (value, found[name]))
        change = abs(one - other)
        if not len(one) or (change <= 1e-6 * max(float(abs(one).max()), 1e-12)).all():
            continue
        worst = int(np.argmax(np.nan_to_num(change, nan=np.inf)))
        rule = describe_change(one, other)
        words = f"{name}: {other[worst]:.5g} instead of {one[worst]:.5g}"
        return f"{words} ({rule})" if rule else words
    return "nothing differs by more than rounding"


def _is_same(values: Values) -> bool:
    """Check whether all values are about the same and not 0."""
    middle = float(values.mean())
    return middle != 0 and float(np.abs(values - middle).max()) <= _RELATIVE * abs(middle)


@lru_cache(maxsize=64)
def _positions(size: int) -> NDArray[np.int64]:
    """Choose values of a flat array of a size above ``SHOWN``, spread over it, each once."""
    count = min(size, _PROJECTED)
    step = max(1, int(size * _STEP))
    while np.gcd(step, size) != 1:
        step += 1
    return (np.arange(1, count + 1, dtype=np.int64) * step) % size


@lru_cache(maxsize=1)
def _signs() -> Values:
    """Return random signs (projections, values); the same with every version of numpy."""
    signs = np.random.RandomState(0).randint(0, 2, (_PROJECTIONS, _PROJECTED))
    return np.where(signs, 1.0, -1.0)
