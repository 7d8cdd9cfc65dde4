"""A training run in a process of its own, to be killed at a stated moment.

Usage: python run_toy.py FOLDER SETTINGS(JSON) [MOMENT]
MOMENT is "step N" (the N-th optimiser step since the process began) or "phase N" (its start).
"""

import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from conftest import Toy, fit_toy, register_toys, toy_data

from visiongraft.hookspecs import hookimpl


class Killer:
    def __init__(self, moment: str) -> None:
        self.kind, number = moment.split()
        self.left = int(number)

    def count(self, kind: str) -> None:
        if kind == self.kind:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    @hookimpl
    def step_ended(self) -> None:
        self.count("step")

    @hookimpl
    def phase_started(self) -> None:
        self.count("phase")


if __name__ == "__main__":
    register_toys()
    folder, settings, *moment = sys.argv[1:]
    options = json.loads(settings)
    task = Toy(**options.pop("task", {}))
    data = toy_data(options.pop("count", 40))
    fit_toy(data, task=task, out=folder, listeners=[Killer(m) for m in moment], **options)
