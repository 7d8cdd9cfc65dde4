"""Ctrl-C ends a command with one line and exit code 130, whatever is being imported."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Stands for a library that swallows what interrupts its import.
STUBBORN = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
except BaseException:
    pass
"""
COMMAND = """
import sys
sys.path.insert(0, {folder!r})
from visiongraft.system.interrupts import quick_interrupts, work_started
import visiongraft.__main__ as program
import visiongraft.cli
def run():
    {body}
visiongraft.cli.main = run
sys.exit(program.main())
"""


def run(folder: Path, body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "stubborn.py").write_text(STUBBORN)
    code = COMMAND.format(folder=str(folder), body=body)
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_ctrl_c_during_an_import_ends_the_command_at_once(tmp_path: Path) -> None:
    done = run(tmp_path, "import stubborn; print('went on'); return 0")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")


def test_with_json_an_object_is_printed_too(tmp_path: Path) -> None:
    done = run(tmp_path, "import stubborn; return 0", "--json")
    assert json.loads(done.stdout) == {"error": "interrupted", "exit_code": 130}
    assert done.returncode == 130 and done.stderr == "error: interrupted\n"


def test_ctrl_c_outside_of_imports_is_one_line(tmp_path: Path) -> None:
    body = "import os, signal; os.kill(os.getpid(), signal.SIGINT); return 0"
    done = run(tmp_path, body)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")


def test_after_work_has_started_an_import_is_interrupted_like_anything_else(
    tmp_path: Path,
) -> None:
    (tmp_path / "plain.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    body = "work_started()\n    try:\n        import plain\n    except KeyboardInterrupt:\n"
    done = run(tmp_path, body + "        print('cleaned up')\n        raise")
    assert (done.returncode, done.stdout) == (130, "cleaned up\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    # Before about 0.5 s a busy machine has not started Python itself, which answers differently.
    "seconds",
    [0.8, *(pytest.param(s, marks=pytest.mark.exhaustive) for s in (1.5, 2.5))],
)
def test_ctrl_c_in_the_first_seconds_of_a_command(tmp_path: Path, seconds: float) -> None:
    words = [sys.executable, "-m", "visiongraft", "fit", "nowhere", "--task", "classification"]
    process = subprocess.Popen(
        [*words, "--out", str(tmp_path / "run")], stderr=subprocess.PIPE, text=True
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    stderr = process.communicate()[1]
    assert process.returncode in (130, 2)  # 2 if it had already ended
    assert process.returncode == 2 or stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
