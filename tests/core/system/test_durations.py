"""Times as users write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.system.durations import describe_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10min", 600),
        ("10 MIN", 600),
        ("10m", 600),
        ("1h30m", 5400),
        ("1h 5s", 3605),
        ("0.5h", 1800),
        ("600", 600),
        ("2.5", 2.5),
        (600, 600),
        (2.5, 2.5),
        ("0s", 0),
    ],
)
def test_times_are_read(text: Any, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("what", ["soon", "", "-5s", "1m1h", "10 parsecs", "1e3", True, None, [3]])
def test_what_is_no_time_is_left_to_be_refused(what: Any) -> None:
    assert parse_duration(what) is what


@given(st.integers(10, 10**6))
def test_a_time_that_is_described_can_be_read_again(seconds: int) -> None:
    assert parse_duration(describe_duration(seconds)) == seconds
