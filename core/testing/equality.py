"""Compare values of any type: tensors, arrays, dataclasses, and containers of them."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from math import isclose, isnan
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils import _pytree as pytree


def same(one: Any, other: Any) -> bool:
    """Check whether two values are equal, arrays and tensors included; NaN equals NaN here."""
    leaves, shape = pytree.tree_flatten(one)
    others, other_shape = pytree.tree_flatten(other)
    return shape == other_shape and all(map(_same_leaf, leaves, others))


def difference(one: Any, other: Any, tolerance: float, where: str = "") -> str:
    """Describe where two JSON values differ by more than rounding; empty if they do not.

    Args:
        one: The first.
        other: The second.
        tolerance: Relative difference of floats that counts as rounding; absolute below 1e-4.
        where: Name of the values.
    """
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        pairs = [(f"{where} {key}".strip(), one[key], other[key]) for key in one]
    elif isinstance(one, (list, tuple)) and isinstance(other, type(one)) and len(one) == len(other):
        pairs = [(where, *pair) for pair in zip(one, other, strict=True)]
    else:
        near = same(one, other) or one == other
        if isinstance(one, float) and isinstance(other, float):
            near = near or isclose(one, other, rel_tol=tolerance, abs_tol=1e-4)
        return "" if near else f"{where} {other!r}, not {one!r}"
    return next(filter(None, (difference(a, b, tolerance, name) for name, a, b in pairs)), "")


def _same_leaf(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        one, other = one.detach().cpu().numpy(), other.detach().cpu().numpy()
    if isinstance(one, np.ndarray):
        nan = one.dtype.kind in "fc"
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=nan)
    # Arrays within objects make `==` raise, and objects that do not define it are never equal.
    if hasattr(one, "__dict__") and (is_dataclass(one) or "__eq__" not in _defined(one)):
        return same(_state(one), _state(other))
    return bool(one == other) or (isinstance(one, float) and isnan(one) and isnan(other))


def _state(value: Any) -> dict[str, Any]:
    """Return an object's attributes, without the fields that a dataclass does not compare."""
    apart = {f.name for f in fields(value) if not f.compare} if is_dataclass(value) else set()
    return {name: each for name, each in vars(value).items() if name not in apart}


def _defined(value: Any) -> set[str]:
    return {name for kind in type(value).__mro__[:-1] for name in vars(kind)}
