from __future__ import annotations

from pathlib import Path

import pytest

from visiongraft.exporters.doctor import machine
from visiongraft.exporters.doctor.machine import describe_machine, usable_cores
from visiongraft.system.versions import installed_versions

X86 = """processor\t: 0
model name\t: AMD EPYC 7763 64-Core Processor
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni
"""


def test_the_machine_has_a_name_and_cores() -> None:
    found = describe_machine()
    assert found["cpu"]
    assert 1 <= found["cores"] == usable_cores()


def test_name_and_instructions_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(X86)
    monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "cpuinfo")
    found = describe_machine()
    assert found["cpu"] == "AMD EPYC 7763 64-Core Processor"
    assert found["instructions"] == ["avx2", "avx512f", "avx512_vnni"]
    (tmp_path / "cpuinfo").unlink()
    assert describe_machine()["cpu"]
    assert describe_machine()["instructions"] == []


def test_only_what_is_installed_has_a_version() -> None:
    assert list(installed_versions("numpy", "no-such-distribution")) == ["numpy"]
