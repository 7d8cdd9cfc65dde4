"""Results are compared relative to their largest value, or that of others within a bound."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from visiongraft.comparison import Disagreement, compare_arrays
from visiongraft.verification.engine import TOLERANCE, Pair

EMPTY = np.array([[0.1, 0.15, 0.0, 0.19]])


def judged(*batches: tuple[Any, Any]) -> bool:
    """Tell whether a candidate is accepted on the last of several batches of an extra output."""
    pair = Pair(cast(Any, None), cast(Any, None), compare_arrays, extras=("map",))
    for reference, candidate in batches:
        found = pair.disagreement({"map": reference}, {"map": candidate})
    return pair.accepts(found.difference, found.mismatches)


FULL = (np.full((1, 4), 2000.0), np.full((1, 4), 2000.0))


@pytest.mark.parametrize("before", [(), (FULL,)])
def test_an_extra_output_that_is_lost_is_found_whatever_came_before(before: Any) -> None:
    assert not judged(*before, (EMPTY, np.zeros_like(EMPTY)))
    assert not judged(*before, (EMPTY, EMPTY * 0.99))


def test_rounding_of_nearly_empty_values_may_be_that_of_larger_ones() -> None:
    rounded = EMPTY + 5 * TOLERANCE * EMPTY.max()
    assert not judged((EMPTY, rounded))
    assert judged(FULL, (EMPTY, rounded))
    assert not judged(FULL, (EMPTY, EMPTY + 11 * TOLERANCE * EMPTY.max()))


def test_a_larger_scale_counts_up_to_ten_times_the_own_one() -> None:
    ones, more = {"a": np.ones(2)}, {"a": np.array([1.0, 1.5])}
    assert compare_arrays(ones, more) == Disagreement(0.5, 0)
    assert compare_arrays(ones, more, scales={"a": 4.0}) == Disagreement(0.125, 0)
    assert compare_arrays(ones, more, scales={"a": 1e9}) == Disagreement(0.05, 0)
