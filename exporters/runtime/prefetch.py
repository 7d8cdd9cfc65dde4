"""Decode images ahead of the network, in a thread of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def decoded_ahead(
    items: Iterable[Item], decode: Callable[[Item], Result], ahead: int
) -> Generator[Result]:
    """Yield results in order while a thread works on those that follow.

    Decoding and inference both release Python's lock. Items are taken in the caller's thread, and
    only as they are needed.

    Args:
        items: What to decode; may be endless.
        decode: Makes one result; what it raises is raised where that result is due.
        ahead: Most results that wait to be taken.

    Yields:
        One result per item.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode")
    try:
        for item in items:
            waiting.append(pool.submit(decode, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
