"""The interval of a fraction: against its definition, at the ends, and around the fraction."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.training.measuring.intervals import wilson


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_its_ends_are_as_many_standard_errors_away_as_asked(counts: tuple[int, int]) -> None:
    right, count = counts
    fraction = right / count
    for end in wilson(fraction, count, 1.96):
        assert (end - fraction) ** 2 == pytest.approx(1.96**2 * end * (1 - end) / count, abs=1e-9)


@given(st.floats(0, 1), st.floats(1, 1e6), st.floats(0.1, 5))
def test_it_holds_the_fraction_and_stays_between_0_and_1(
    fraction: float, count: float, errors: float
) -> None:
    low, high = wilson(fraction, count, errors)
    assert 0 <= low <= fraction <= high <= 1
