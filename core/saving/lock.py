"""A lock on a folder, so that one process at a time writes it; the lock of a killed one is free."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from visiongraft.errors import TrainingError, VisiongraftError
from visiongraft.saving.files import unwritable
from visiongraft.system.processes import is_alive

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "run.lock"
YOUNG = 60.0  # seconds during which another process may not have locked its temporary folder yet

# The folders that this process has locked. Locks on files belong to a process: a second one in the
# same process would succeed, and closing its file would release the first one.
_held: dict[str, int] = {}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder within a block.

    The file ``run.lock`` names its owner while the lock is held. The operating system releases the
    lock of a process that ends in any way, and what such a process left behind is taken over.

    Args:
        folder: An existing folder.

    Raises:
        TrainingError: Another process holds the lock, or one on another machine seems to.
        VisiongraftError: The lock file cannot be written.
    """
    path = folder / LOCK
    key = os.path.realpath(path)
    if _held.get(key) == os.getpid():
        raise TrainingError(f"{folder} is in use by another run of this process; wait for its end")
    try:
        handle = _acquire(folder, path)
    except OSError as error:
        raise unwritable(path, error) from error
    _held[key] = os.getpid()
    try:
        yield
    finally:
        if _held.get(key) == os.getpid():  # not in a copy of this process
            del _held[key]
            path.unlink(missing_ok=True)  # before the lock is released: then it may be another's
        os.close(handle)


def remove_abandoned(folders: Iterable[Path]) -> None:
    """Remove the temporary folders of processes that were killed.

    Args:
        folders: Folders that their processes lock while they use them.
    """
    for folder in folders:
        with suppress(OSError, VisiongraftError):
            if time.time() - folder.stat().st_mtime > YOUNG:
                with locked(folder):
                    shutil.rmtree(folder)


def _acquire(folder: Path, path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            supported = _lock(handle)
            owner = _read(handle)
            if supported is False or (owner and _may_live(owner, supported)):
                raise TrainingError(_in_use(folder, path, owner))
            if _is_same(handle, path):
                _write(handle)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its owner has removed the file meanwhile


def _lock(handle: int) -> bool | None:
    """Lock an open file; ``None`` where the file system has no locks, ``False`` if another has it."""
    if fcntl is None:
        return None
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _may_live(owner: dict[str, Any], locked: bool | None) -> bool:
    """Check whether the owner may still run although the file could be locked."""
    if owner.get("host") != socket.gethostname():
        return True  # locks of network file systems need not reach other machines
    return locked is None and is_alive(int(owner["pid"]))


def _read(handle: int) -> dict[str, Any]:
    """Read who owns the lock; nothing if the owner was killed while it wrote that."""
    try:
        owner = json.loads(os.pread(handle, 4096, 0))
        return {"pid": int(owner["pid"]), "host": str(owner["host"]), "since": str(owner["since"])}
    except (ValueError, KeyError, TypeError):
        return {}


def _write(handle: int) -> None:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    os.ftruncate(handle, 0)
    os.pwrite(handle, (json.dumps(owner) + "\n").encode(), 0)


def _is_same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _in_use(folder: Path, path: Path, owner: dict[str, Any]) -> str:
    if not owner:
        return f"{folder} is in use by another process; wait for its end, or choose another folder"
    who = f"{folder} is in use by process {owner['pid']}"
    if owner["host"] == socket.gethostname():
        return (
            f"{who}, a run that began at {owner['since']}; wait for its end, stop that process, or "
            "choose another folder"
        )
    return (
        f"{who} on host {owner['host']!r}, a run that began at {owner['since']}; wait for its end "
        f"or, if that process is gone, delete {path} and start again"
    )
