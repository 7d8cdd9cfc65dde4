"""Time functions side by side, so that other load on the machine affects all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

WARM_UP = 3
LEAST_ROUNDS, MOST_ROUNDS = 5, 2000
_PAUSE = 0.005  # for onnxruntime's threads, which spin for a while after a run, to go to sleep


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Call each function once per round, in an order that shifts by one from round to round.

    Args:
        calls: What to time, by name.
        seconds: Time for each of them, after the warm-up.
        clock: Returns seconds; ``time.process_time`` counts the time of the CPU instead, which is
            steadier on a busy machine if one thread works.

    Returns:
        Seconds of each call, by name.
    """
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    names = list(calls)
    found: dict[str, list[float]] = {name: [] for name in names}
    end = time.perf_counter() + seconds * len(names)
    for turn in range(MOST_ROUNDS):
        if turn >= LEAST_ROUNDS and time.perf_counter() >= end:
            break
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            time.sleep(_PAUSE)
            start = clock()
            calls[name]()
            found[name].append(clock() - start)
    return found
