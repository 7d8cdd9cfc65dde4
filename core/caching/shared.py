"""Cached features that several runs share, in the user's cache folder.

Each entry is a folder of arrays named after its key, see ``caching.keys``. It is written elsewhere and
renamed once it is complete, its arrays are compared with their digests before they are used, and the
least recently used entries make room for new ones.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.errors import ArtifactError, TrainingError, VisiongraftError
from visiongraft.saving.files import read_json, write_json
from visiongraft.saving.lock import locked, remove_abandoned
from visiongraft.system.user_cache import user_cache

FORMAT = 1
LIMIT = 10_000_000_000  # bytes of all entries
ABOUT = "about.json"  # of an entry; written last
NEW = ".new-"  # how the folders of entries begin that are being written
PATIENCE = 30.0  # seconds to wait for another process that adds or removes an entry

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Entry:
    """One entry.

    Attributes:
        path: Its folder.
        about: What it contains, for people; empty if it is damaged.
        size: Its size in bytes.
        used: When it was used last, in seconds since the epoch.
    """

    path: Path
    about: Mapping[str, Any]
    size: int
    used: float


def shared_folder() -> Path:
    """Return the folder of all entries, which need not exist.

    Raises:
        VisiongraftError: The user has no home folder.
    """
    try:
        return user_cache() / "features"
    except RuntimeError as error:
        raise VisiongraftError(f"there is no folder for cached features: {error}") from error


def open_entry(folder: Path, key: str, names: Sequence[str]) -> dict[str, NDArray[Any]] | None:
    """Open an entry, and note that it was used.

    Args:
        folder: The folder of all entries.
        key: Its key.
        names: Names of its arrays.

    Returns:
        Its arrays by name, mapped into memory and read-only; ``None`` if there is no such entry, or
        if it is damaged, in which case it is removed.
    """
    path = folder / key
    if not path.is_dir():
        return None
    try:
        digests = read_json(path / ABOUT)["digests"]
        arrays = {
            name: np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names
        }
        if {name: _digest(array) for name, array in arrays.items()} == digests:
            os.utime(path / ABOUT)
            return arrays
    except (ArtifactError, OSError, ValueError, KeyError, TypeError):
        pass
    remove_entry(path)
    return None


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Create a folder to write an entry into, which is removed at the end unless ``add_entry`` moved it.

    Args:
        folder: The folder of all entries.

    Yields:
        The new folder; arrays that are mapped from its files stay valid.

    Raises:
        OSError: It cannot be created.
        VisiongraftError: It cannot be locked.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    remove_abandoned(folder.glob(f"{NEW}*"))
    around = Path(tempfile.mkdtemp(prefix=NEW, dir=folder))
    try:
        with locked(around):
            path = around / "entry"
            path.mkdir()
            yield path
    finally:
        shutil.rmtree(around, ignore_errors=True)


def add_entry(written: Path, key: str, arrays: Arrays, about: Mapping[str, Any]) -> None:
    """Add an entry, and remove the least recently used ones beyond the limit.

    Args:
        written: From ``new_folder``, with one ``.npy`` file for each array.
        key: Its key.
        arrays: The arrays by name.
        about: What they are, for people (JSON values).

    Raises:
        VisiongraftError: It cannot be added.
    """
    folder = written.parent.parent
    digests = {name: _digest(array) for name, array in arrays.items()}
    write_json(written / ABOUT, {"format": FORMAT, **about, "digests": digests})
    with _alone(folder):
        if (folder / key).exists():  # another process was faster
            return
        _make_room(folder, _size(written))
        try:
            os.rename(written, folder / key)
        except OSError as error:
            raise VisiongraftError(f"{folder / key} cannot be written: {error}") from error


def entries(folder: Path) -> list[Entry]:
    """List all entries, the most recently used first."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.startswith(".") or not path.is_dir():
            continue
        with suppress(OSError):  # removed meanwhile
            about = path / ABOUT
            used = (about if about.exists() else path).stat().st_mtime
            found.append(Entry(path, _read_about(about), _size(path), used))
    return sorted(found, key=lambda entry: -entry.used)


def clear(folder: Path) -> list[Entry]:
    """Remove all entries, and what killed processes left behind; return what was removed."""
    if not folder.is_dir():
        return []
    with _alone(folder):
        remove_abandoned(folder.glob(f"{NEW}*"))
        found = entries(folder)
        for entry in found:
            remove_entry(entry.path)
    return found


def remove_entry(path: Path) -> None:
    """Remove an entry; who has its arrays open can go on reading them."""
    shutil.rmtree(path, ignore_errors=True)


def _make_room(folder: Path, size: int) -> None:
    kept = entries(folder)
    total = size + sum(entry.size for entry in kept)
    while kept and total > LIMIT:
        oldest = kept.pop()
        remove_entry(oldest.path)
        total -= oldest.size


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process adds or removes entries, and keep others waiting within a block."""
    end = time.monotonic() + PATIENCE
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(folder))
                break
            except TrainingError as error:
                if time.monotonic() > end:
                    raise VisiongraftError(str(error)) from error
                time.sleep(0.05)
        yield


def _read_about(path: Path) -> dict[str, Any]:
    try:
        about = read_json(path)
    except ArtifactError:
        return {}
    return about if isinstance(about, dict) else {}


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir())


def _digest(array: NDArray[Any]) -> str:
    content = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    content.update(array.reshape(-1).view(np.uint8).data)
    return content.hexdigest()
