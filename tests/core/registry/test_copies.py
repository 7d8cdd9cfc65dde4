"""What happens to a copy of this process is reported, and nothing of it reaches this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from visiongraft.registry.copies import can_copy, try_in_copy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there processes are copied")


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (lambda: 3, "returns"),
        (lambda: sys.exit(3), "raises"),
        (interrupt, "interrupts"),
        (lambda: os._exit(0), "exit code 0"),
        (lambda: os._exit(7), "exit code 7"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "signal SIGKILL"),
    ],
)
def test_the_end_of_a_copy_is_described(function: Callable[[], object], result: str) -> None:
    assert try_in_copy(function, 20) == result


def test_a_copy_is_ended_when_patience_is() -> None:
    started = time.monotonic()
    assert try_in_copy(lambda: time.sleep(60), 0.1) == "unknown"
    assert time.monotonic() - started < 10


def test_what_a_copy_changes_and_prints_stays_there(capfd: pytest.CaptureFixture[str]) -> None:
    values = list[int]()

    def change() -> None:
        values.append(1)
        os.write(1, b"out")
        os.write(2, b"err")

    assert try_in_copy(change, 20) == "returns"
    assert values == []
    assert capfd.readouterr() == ("", "")


def test_a_process_that_a_copy_leaves_behind_does_not_delay() -> None:
    started = time.monotonic()
    words = [sys.executable, "-c", "import time; time.sleep(3)"]
    assert try_in_copy(lambda: subprocess.Popen(words, close_fds=False), 20) == "returns"
    assert time.monotonic() - started < 2


def test_a_copy_ends_with_an_interruption_by_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    children = list[int]()
    fork = os.fork

    def noting() -> int:
        child = fork()
        children.append(child)
        return child

    def sleep(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fork", noting)
    wait = threading.Event().wait
    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        try_in_copy(lambda: wait(60), 60)
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)


def test_a_process_with_threads_is_not_copied() -> None:
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        assert not can_copy()
    finally:
        ended.set()
        thread.join()
