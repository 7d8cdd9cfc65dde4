from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count, islice

import pytest

from visiongraft.exporters.runtime.prefetch import decoded_ahead


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_results_come_in_order() -> None:
    assert list(decoded_ahead(range(50), lambda n: n * n, 4)) == [n * n for n in range(50)]
    assert list(decoded_ahead([], abs, 4)) == []


def test_decoding_continues_in_another_thread_while_the_caller_works() -> None:
    second = threading.Event()

    def decode(number: int) -> int:
        if number == 1:
            second.set()
        return number

    results = decoded_ahead(range(3), decode, 2)
    assert next(results) == 0
    assert second.wait(5)  # nothing more was asked for
    results.close()


def test_only_so_many_wait_and_items_are_taken_by_the_caller() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in count():
            assert threading.current_thread() is threading.main_thread()
            taken.append(number)
            yield number

    results = decoded_ahead(items(), abs, 3)
    assert list(islice(results, 5)) == [0, 1, 2, 3, 4]
    assert len(taken) == 5 + 3
    results.close()


def test_an_error_comes_where_its_result_is_due_and_ends_the_thread() -> None:
    def decode(number: int) -> int:
        if number == 3:
            raise ValueError("broken image")
        return number

    results = decoded_ahead(range(100), decode, 8)
    assert list(islice(results, 3)) == [0, 1, 2]
    with pytest.raises(ValueError, match="broken image"):
        next(results)
    assert decoders() == []


def test_a_caller_that_stops_early_leaves_no_thread() -> None:
    results = decoded_ahead(count(), abs, 8)
    next(results)
    assert len(decoders()) == 1
    results.close()
    assert decoders() == []
