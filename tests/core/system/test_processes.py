"""Errors that tell of the end of another process are recognized, and no others."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from visiongraft.cli.failures import failure_of
from visiongraft.system.processes import as_lost_process, is_alive


class DistBackendError(RuntimeError):
    """As torch raises it."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "),
            "a worker process that loads images (pid 12) was killed by signal: Killed; if memory",
        ),
        (
            RuntimeError("DataLoader worker (pid(s) 12, 13) exited unexpectedly"),
            "a worker process that loads images (pid 12, 13) exited unexpectedly; if memory",
        ),
        (
            RuntimeError("[/src/gloo/transport/tcp/pair.cc:544] Connection closed by peer [::1]:9"),
            "another process of this distributed run has ended or cannot be reached; its own",
        ),
        (
            RuntimeError("[/src/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 1800ms"),
            "another process of this distributed run has ended",
        ),
        (DistBackendError("NCCL communicator was aborted on rank 0."), "another process of this"),
    ],
)
def test_the_end_of_another_process_is_named(error: Exception, words: str) -> None:
    assert str(as_lost_process(error)).startswith(words)
    failure = failure_of(error)
    assert failure.message.startswith(words) and failure.exit_code == 2
    assert "\n" not in failure.message


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("Connection closed by peer"),
        RuntimeError("gloo does not support this data type"),
        BrokenPipeError(32, "Broken pipe"),
    ],
)
def test_other_errors_are_left_alone(error: Exception) -> None:
    assert as_lost_process(error) is None


def test_a_process_that_has_ended_is_not_alive() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not is_alive(ended.pid)
    assert is_alive(os.getpid()) and is_alive(1) and not is_alive(10**30)
