"""Keep freed memory in the process, where the C library would return it and fetch it again."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

# Parameters of glibc's mallopt(3), and the largest values that it accepts for them.
M_TRIM_THRESHOLD, LARGEST_TRIM = -1, 2**31 - 1
M_MMAP_THRESHOLD, LARGEST_MMAP = -3, 32 * 2**20


PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")  # the limits of a container


def available_memory() -> int:
    """Return how many bytes of memory may still be allocated on the CPU, as far as that is known."""
    free = _entry("meminfo", "MemAvailable", sys.maxsize)
    with suppress(OSError, ValueError):  # there is no container, or its limit is "max"
        limit = int((CGROUP / "memory.max").read_text())
        free = min(free, limit - int((CGROUP / "memory.current").read_text()))
    return max(0, free)


def used_memory(peak: bool = False) -> int:
    """Return how many bytes of memory this process uses on the CPU, or has used; 0 if unknown."""
    return _entry("self/status", "VmHWM" if peak else "VmRSS", 0)


def reset_peak_memory() -> bool:
    """Begin to measure anew what ``used_memory(peak=True)`` returns.

    Blocks that are free go back to the operating system, which counts them otherwise.

    Returns:
        Whether that was possible; it is on Linux only.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    try:
        (PROC / "self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _entry(file: str, name: str, default: int) -> int:
    """Read an amount of memory from one of Linux' tables."""
    with suppress(OSError, ValueError, IndexError):
        for line in (PROC / file).read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return default


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed blocks instead of returning them to the operating system.

    A training step on a CPU frees and allocates the same large blocks again and again. By default, each
    of them is unmapped, and the kernel fetches and clears its pages anew: a page fault for every 4 kB.
    Settings that a user made in the environment are left alone.

    Returns:
        Whether the thresholds were set; other C libraries have none.
    """
    chosen = any(name.startswith("MALLOC_") for name in os.environ)
    chosen = chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if chosen or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # Both or none: setting one of them ends glibc's own adjustment of the other.
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP) and mallopt(M_TRIM_THRESHOLD, LARGEST_TRIM))
