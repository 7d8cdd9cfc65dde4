"""Freed memory stays in the process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from visiongraft.system import memory

SCRIPT = """
import resource, sys
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("memory", sys.argv[1])
memory = module_from_spec(spec)
spec.loader.exec_module(memory)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for size in [24_000_000, 16_000_000] * 20:
        block = bytearray(b"1") * size
        del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

plain = faults()
print(memory.keep_freed_memory(), plain, faults())
"""


def run(**environment: str) -> tuple[str, int, int]:
    kept = {k: v for k, v in os.environ.items() if "MALLOC" not in k and k != "GLIBC_TUNABLES"}
    output = subprocess.run(
        [sys.executable, "-c", SCRIPT, memory.__file__],
        capture_output=True,
        text=True,
        check=True,
        env={**kept, **environment},
    ).stdout.split()
    return output[0], int(output[1]), int(output[2])


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries have no thresholds"
)
def test_blocks_that_are_allocated_again_cause_no_page_faults() -> None:
    done, before, after = run()
    assert done == "True"
    assert after < before / 4


@pytest.mark.parametrize(
    "environment",
    [{"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1000000"}],
    ids=str,
)
def test_settings_of_the_user_are_left_alone(environment: dict[str, str]) -> None:
    assert run(**environment)[0] == "False"
