"""Training runs in processes of their own, to be killed at stated moments.

Reads one run a line from standard input, as JSON [FOLDER, SETTINGS, MOMENT...], starts it in a fresh
process and answers with its exit code. Forking saves the imports; no run is ever made in this
process itself, so each begins with the same empty state.

A moment is "step N" (the N-th optimizer step of that process), "phase N" (its start) or "write N"
(when the N-th file is written but not yet renamed).
"""

import gc
import json
import os
import signal
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import Toy, fit_toy, register_toys, toy_data

from visiongraft.hookspecs import hookimpl


class Killer:
    def __init__(self, moment: str) -> None:
        self.kind, number = moment.split()
        self.left = int(number)
        self.replace = os.replace
        os.replace = self.count_write

    def count(self, kind: str) -> None:
        if kind == self.kind:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def count_write(self, *paths: object) -> None:
        self.count("write")
        self.replace(*paths)

    @hookimpl
    def step_ended(self) -> None:
        self.count("step")

    @hookimpl
    def phase_started(self) -> None:
        self.count("phase")


def train(folder: str, settings: dict, *moments: str) -> None:
    task = Toy(**settings.pop("task", {}))
    data = toy_data(settings.pop("count", 40))
    fit_toy(data, task=task, out=folder, callbacks=[Killer(m) for m in moments], **settings)


def in_child(words: list) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            train(*words)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    register_toys()
    gc.freeze()  # or each child would copy all that the libraries hold when it collects garbage
    for line in sys.stdin:
        print(in_child(json.loads(line)), flush=True)
