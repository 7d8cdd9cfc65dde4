"""onnxruntime's telemetry stays off unless somebody asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMMANDS = """
import sys
from visiongraft.cli import main

for words in (["tasks"], ["verify", sys.argv[1]], ["doctor"]):
    assert main(words) == 0, words
"""


HIDDEN = ("ORT_DISABLE_TELEMETRY", "VISIONGRAFT_CACHE")


def files_written_by(code: str, home: Path, *words: object) -> list[str]:
    """Run Python with an empty home folder, and return the names of what it left there."""
    environment = {k: v for k, v in os.environ.items() if k not in HIDDEN}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    command = [sys.executable, "-c", code, *map(str, words)]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return [path.name for path in home.rglob("*") if path.is_file()]


@pytest.mark.exhaustive  # what opens files is tried below
@pytest.mark.slow
def test_no_command_writes_below_the_home_folder(exported: Any, tmp_path: Path) -> None:
    assert files_written_by(COMMANDS, tmp_path, exported.path) == []


def test_opening_a_file_writes_nothing_below_the_home_folder(exported: Any, tmp_path: Path) -> None:
    code = "import sys; from visiongraft.exporters.runtime import Predictor; Predictor(sys.argv[1])"
    assert files_written_by(code, tmp_path, exported.path) == []


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems keep it elsewhere")
def test_onnxruntime_alone_would_write_there(tmp_path: Path) -> None:
    written = files_written_by("import onnxruntime", tmp_path)
    if not written:
        pytest.skip("this onnxruntime writes nothing")
    assert "deviceid" in written
