"""Other processes: whether one is alive, and errors that tell that one was lost."""

from __future__ import annotations

import os
import re

from visiongraft.errors import TrainingError

# What torch raises where a process that loads images has died: in any line of the main process.
_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? (?P<pid>[\d, ]+)\)(?P<how>[^.]*)")
# What gloo, NCCL and torch's store raise where a process of a distributed run has gone.
_PEER = re.compile(
    r"connection (?:closed|reset) by peer|remote process exited|gloo.*(?:broken pipe|time(?:d )?out)"
    r"|(?:NCCL|ProcessGroup|TCPStore).*(?:abort|time(?:d )?out|broken pipe|unhandled system error)",
    re.IGNORECASE | re.DOTALL,
)
_PEER_ERRORS = ("DistBackendError", "DistNetworkError", "DistStoreError")


def is_alive(pid: int) -> bool:
    """Check whether a process of this machine exists; assume so where that cannot be known."""
    if os.name != "posix":  # elsewhere this signal would end it
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it exists and is another user's
        pass
    return True


def as_lost_process(error: BaseException) -> TrainingError | None:
    """Recognize that an error is due to another process that has ended.

    Args:
        error: What was raised.

    Returns:
        The error to report; ``None`` if it is another kind of error.
    """
    text = str(error)
    if not isinstance(error, (RuntimeError, OSError)):
        return None
    worker = _WORKER.search(text)
    if worker is not None:
        how = worker["how"].strip().removeprefix("is ") or "ended"
        return TrainingError(
            f"a worker process that loads images (pid {worker['pid'].strip()}) {_was(how)}; if "
            "memory is short, try fewer workers or a smaller batch size, or workers=0 (--workers 0) "
            "to see an error that it met"
        )
    distributed = type(error).__name__ in _PEER_ERRORS
    if distributed or (type(error) is RuntimeError and _PEER.search(text)):
        return TrainingError(
            "another process of this distributed run has ended or cannot be reached; its own "
            "output says why; start all of them again with resume=True (--resume)"
        )
    return None


def _was(how: str) -> str:
    """Turn what torch says of a worker into a predicate."""
    return f"was {how}" if how.startswith("killed") else how
