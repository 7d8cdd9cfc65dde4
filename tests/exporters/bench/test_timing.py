from __future__ import annotations

import time

from visiongraft.exporters.bench.timing import LEAST_ROUNDS, MOST_ROUNDS, WARM_UP, interleaved


def test_all_are_called_equally_often_in_turns_after_a_warm_up() -> None:
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    times = interleaved(calls, seconds=0.0)
    assert {name: len(found) for name, found in times.items()} == dict.fromkeys("abc", LEAST_ROUNDS)
    assert order[: 3 * WARM_UP] == ["a"] * WARM_UP + ["b"] * WARM_UP + ["c"] * WARM_UP
    timed = order[3 * WARM_UP :]
    rounds = ["".join(timed[i : i + 3]) for i in range(0, len(timed), 3)]
    assert rounds[:4] == ["abc", "bca", "cab", "abc"]


def test_a_slower_function_takes_longer() -> None:
    calls = {"slow": lambda: time.sleep(0.004), "fast": lambda: None}
    times = interleaved(calls, seconds=0.02)
    assert min(times["slow"]) > 0.003 > min(times["fast"])


def test_the_clock_can_be_chosen_and_rounds_are_bounded() -> None:
    ticks = iter(range(10_000_000))
    times = interleaved({"a": lambda: None}, seconds=0.05, clock=lambda: float(next(ticks)))
    assert set(times["a"]) == {1.0}
    assert LEAST_ROUNDS <= len(times["a"]) <= MOST_ROUNDS
