"""Which machine and which libraries numbers come from."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

_CPU_INFO = Path("/proc/cpuinfo")
# What decides how fast int8 and bf16 are; in the order of their age.
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimddp")


def describe_machine() -> dict[str, Any]:
    """Describe the machine.

    Returns:
        ``cpu`` (its model), ``cores`` (logical ones that this process may use), ``instructions``
        (those that matter for small number formats), ``system`` and ``python``.
    """
    text = _CPU_INFO.read_text(errors="replace") if _CPU_INFO.is_file() else ""
    named = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*: (.+)$", text, re.MULTILINE)
    known = set(flags[1].split()) if flags else set()
    return {
        "cpu": named[1].strip() if named else platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "instructions": [name for name in _INSTRUCTIONS if name in known],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def usable_cores() -> int:
    """Count the logical cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
