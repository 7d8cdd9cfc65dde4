"""A folder is written by one process at a time; what a killed process locked is free at once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from visiongraft.errors import TrainingError, VisiongraftError
from visiongraft.saving import lock
from visiongraft.saving.lock import LOCK, locked

HOLD = """
import os, sys, time
from pathlib import Path
from visiongraft.saving.lock import locked
with locked(Path(sys.argv[1])):
    child = os.fork()  # as processes that load images are
    if child:
        print(child, flush=True)
    time.sleep(60)
"""


class Holder:
    """Another process that holds the lock, with a child that outlives it."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.child = int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        self.kill()
        os.kill(self.child, signal.SIGKILL)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    held = Holder(tmp_path)
    yield held
    held.end()


def write_owner(folder: Path, **changes: Any) -> None:
    owner = {"pid": 12, "host": socket.gethostname(), "since": "2026-01-02 03:04:05", **changes}
    (folder / LOCK).write_text(json.dumps(owner))


def test_a_folder_in_use_is_refused_with_its_owner_and_free_once_that_is_killed(
    tmp_path: Path, holder: Holder
) -> None:
    with (
        pytest.raises(TrainingError, match=f"in use by process {holder.process.pid}, a run that"),
        locked(tmp_path),
    ):
        pass
    holder.kill()  # its child lives on
    os.kill(holder.child, 0)
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert not (tmp_path / LOCK).exists()


def test_the_lock_is_released_after_an_error_and_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="mine"), locked(tmp_path):
            raise ValueError("mine")
        assert not (tmp_path / LOCK).exists()


def test_a_second_lock_in_one_process_is_refused_and_keeps_the_first(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(TrainingError, match="another run of this process"), locked(tmp_path):
            pass
        code = "import sys; from pathlib import Path; from visiongraft.saving.lock import locked\n"
        code += "with locked(Path(sys.argv[1])): pass"
        other = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert f"in use by process {os.getpid()}" in other.stderr


def test_a_lock_of_another_host_is_refused_with_the_remedy(tmp_path: Path) -> None:
    write_owner(tmp_path, host="elsewhere")
    words = rf"process 12 on host 'elsewhere', .* if that process is gone, delete .*{LOCK} and"
    with pytest.raises(TrainingError, match=words), locked(tmp_path):
        pass
    (tmp_path / LOCK).unlink()
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}', "\0\0"])
def test_a_lock_whose_owner_was_killed_while_it_wrote_is_free(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK).write_text(content)
    with locked(tmp_path):
        pass


def test_without_file_locks_the_process_id_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_lock", lambda handle: None)
    write_owner(tmp_path, pid=os.getpid())
    with pytest.raises(TrainingError, match=f"process {os.getpid()}"), locked(tmp_path):
        pass
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    write_owner(tmp_path, pid=ended.pid)
    with locked(tmp_path):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(VisiongraftError, match=r"run\.lock cannot be written"), locked(tmp_path):
        pass


@pytest.mark.slow
def test_of_many_processes_that_start_at_once_one_gets_the_lock(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("")  # as if its owner had been killed
    code = """
import sys, time
from pathlib import Path
from visiongraft.errors import TrainingError
from visiongraft.saving.lock import locked
print("ready", flush=True)
time.sleep(float(sys.stdin.readline()) - time.time())
try:
    with locked(Path(sys.argv[1])):
        print("mine", flush=True)
        sys.stdin.read()
except TrainingError:
    print("refused", flush=True)
"""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    assert [each.stdout.readline() for each in started if each.stdout] == ["ready\n"] * 6
    moment = time.time() + 0.2
    for each in started:
        assert each.stdin
        each.stdin.write(f"{moment!r}\n")
        each.stdin.flush()
    answers = sorted(each.stdout.readline() for each in started if each.stdout)
    for each in started:
        each.communicate()  # closes its input, which ends the owner
    assert answers == ["mine\n", *["refused\n"] * 5]
