"""Training runs in processes of their own, to be killed at stated moments.

Reads one run a line from standard input, as JSON [FOLDER, SETTINGS, MOMENT...], starts it in a fresh
process and answers with its exit code. Forking saves the imports; no run is ever made in this
process itself, so each begins with the same empty state.

With the setting "plugin" it trains the task of that file of tests/third_party on its own examples.
With the setting "processes" as many of them train together, and the answer is the code of each: LOST
for one that names the end of another as what ended it.

A moment is "step N" (the end of the N-th step of that process), "update N" (the N-th time that any
optimizer updates weights), "phase N" (its start) or "write N" (when the N-th file is written but not yet
renamed). The moment "shared sums" is a fault instead:
all processes restore the sums of losses of the first one.
"""

import gc
import json
import os
import signal
import socket
import sys
import traceback
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(1, str(Path(__file__).parents[2] / "third_party"))
from conftest import Toy, fit_toy, register_toys, toy_data
from torch.optim.optimizer import register_optimizer_step_post_hook

from visiongraft.errors import TrainingError
from visiongraft.hookspecs import hookimpl
from visiongraft.training import engine

LOST = 40


class Killer:
    def __init__(self, moment: str) -> None:
        self.kind, number = moment.split()
        self.left = int(number)
        self.replace = os.replace
        os.replace = self.count_write
        register_optimizer_step_post_hook(lambda *_: self.count("update"))

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


def share_sums() -> None:
    restore = engine.restore_steps

    def restore_first(optimizer, accelerator, checkpoint):
        restore(optimizer, accelerator, checkpoint)
        checkpoint.state.sums = dict(checkpoint.values["sums"][0])

    engine.restore_steps = restore_first


def train(folder: str, settings: dict, *moments: str) -> None:
    count = settings.pop("count", 40)
    if "plugin" in settings:
        module = import_module(settings.pop("plugin"))
        task, data = module.register_tasks()[0](), module.make_dataset(Path(), count, 0)
    else:
        task, data = Toy(**settings.pop("task", {})), toy_data(count)
    if "shared sums" in moments:
        share_sums()
    killers = [Killer(moment) for moment in moments if moment != "shared sums"]
    fit_toy(data, task=task, out=folder, callbacks=killers, **settings)


def in_child(words: list, environment: dict) -> int:
    """Start a run in a child process and return the child's process id."""
    child = os.fork()
    if child == 0:
        os.environ.update(environment)
        code = 1
        try:
            train(*words)
            code = 0
        except TrainingError as error:
            code = LOST if "another process of this distributed run has ended" in str(error) else 1
            traceback.print_exc()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def in_children(folder: str, settings: dict, *moments: str) -> list[int]:
    processes = settings.pop("processes", 1)
    environment = {}
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        environment["WORLD_SIZE"] = environment["LOCAL_WORLD_SIZE"] = str(processes)
    children = []
    for rank in range(processes):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
        children.append(in_child([folder, settings, *moments], {**environment, **own}))
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


if __name__ == "__main__":
    register_toys()
    gc.freeze()  # or each child would copy all that the libraries hold when it collects garbage
    for line in sys.stdin:
        print(*in_children(*json.loads(line)), flush=True)
