"""Processes that start runs, to be killed or to train together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

RUN = Path(__file__).with_name("run_toy.py")
LOST = 40


class Server:
    """A process that starts runs; ``hash_seed`` orders its sets unlike those of others."""

    def __init__(self, hash_seed: int, log: Path) -> None:
        self.log = log
        with open(log, "w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(RUN)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
            )

    def run(self, folder: Path, settings: dict[str, Any], *moments: str) -> int:
        """Run in a process of its own and return its exit code: 0, or -9 if it was killed."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(folder), settings, *moments]) + "\n")
        self.process.stdin.flush()
        first, *others = map(int, self.process.stdout.readline().split())
        assert first in (0, -9), self.log.read_text()
        assert set(others) <= {LOST if first else 0}, self.log.read_text()
        return first

    def close(self) -> None:
        self.process.communicate(timeout=30)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(1, tmp_path_factory.mktemp("server") / "1.log")
    yield made
    made.close()


@pytest.fixture(scope="session")
def run(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., int]]:
    """Run in a process of its own; what is killed is resumed by another server."""
    other = Server(2, tmp_path_factory.mktemp("server") / "2.log")
    turns = cycle((server, other))
    yield lambda folder, settings, *moments: next(turns).run(folder, settings, *moments)
    other.close()
