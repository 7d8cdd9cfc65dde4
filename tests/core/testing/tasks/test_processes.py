"""The batch size that the kit trains two processes with."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from visiongraft.data.loader import shuffled_batches
from visiongraft.testing.tasks.processes import _evenly


@given(images=st.integers(8, 400))
def test_the_batches_of_two_processes_are_those_of_one(images: int) -> None:
    size = _evenly(images)
    assert size % 2 == 0
    one, two = (shuffled_batches(images, size, 0, 0, processes) for processes in (1, 2))
    assert one == two
