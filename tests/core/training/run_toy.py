"""Training runs in processes of their own, to be killed at stated moments.

Reads one run a line from standard input, as JSON [FOLDER, SETTINGS, MOMENT...], starts it in a fresh
process and answers with its exit code. Forking saves the imports; no run is ever made in this
process itself, so each begins with the same empty state.

With the setting "plugin" it trains the task of that file of tests/third_party on its own examples, and
with "others" further files there are plugins, too.
With the setting "processes" as many of them train together, and the answer is the code of each: LOST
for one that names the end of another as what ended it.

A moment is "step N" (the end of the N-th step of that process), "update N" (the N-th time that any
optimizer updates weights), "phase N" (its start) or "write N" (when the N-th file is written but not yet
renamed). Other moments are faults, such as "shared sums":
all processes restore the sums of losses of the first one.
"""

import gc
import hashlib
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
import torch
from accelerate import Accelerator
from conftest import StreamingToy, Toy, fit_toy, register_toys, toy_data
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from visiongraft.errors import TrainingError
from visiongraft.hookspecs import hookimpl
from visiongraft.registry.manager import plugins
from visiongraft.schedules import Phase, schedule
from visiongraft.training import engine
from visiongraft.training.private.steps import PrivateSteps

LOST = 40


@schedule
def probe_then_all(stages, epochs):
    yield Phase(1, "head", 1e-2)
    yield Phase(epochs - 1, "all", 1e-3, batch_norm="frozen")


class Linear(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 3)

    def forward(self, features):
        return self.linear(features.pooled)


class Plain(Toy):
    """Without the head's batch norm and dropout, which only see the images of their own process."""

    def build_head(self, backbone):
        for module in backbone.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return Linear(backbone.info.embedding_dim)


class Private(Plain):
    """Its loss is a mean over images that has no parameters."""

    def build_loss(self):
        return Entropy()

    def mix(self, images, targets):
        return images, targets


class Entropy(nn.Module):
    def forward(self, outputs, targets):
        return {"entropy": nn.functional.cross_entropy(outputs, targets)}


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


def wrap_once() -> None:
    prepare, kept = Accelerator.prepare_model, []

    def prepare_once(accelerator, network):
        if not kept:
            kept.append(prepare(accelerator, network))
        return kept[0]

    Accelerator.prepare_model = prepare_once


def keep_sums() -> None:
    PrivateSteps._add_up = lambda self: None


def noise_in_each() -> None:
    seed = PrivateSteps._seed
    PrivateSteps._seed = lambda self, *key: seed(
        self, *key, *([os.environ.get("RANK", "0")] if key[0] == "noise" else [])
    )

    def add_up_later(self) -> None:
        """Let each process add noise to its own sum before all are added up."""

    def spread_sums(self) -> None:
        for parameter in self.optimizer.params:
            parameter.grad = self.accelerator.reduce(parameter.grad)

    PrivateSteps._add_up, PrivateSteps._spread = add_up_later, spread_sums


FAULTS = {
    "shared sums": share_sums,
    "wrap once": wrap_once,
    "sums of one process": keep_sums,
    "noise of each process": noise_in_each,
}


def report_last_weights(folder: str) -> None:
    """Write how many processes joined, and a hash of the weights that this one ends with."""
    finish = engine.Engine._finish

    def report_and_finish(self):
        tensors = self.run.network.state_dict().values()
        content = b"".join(t.cpu().contiguous().numpy().tobytes() for t in tensors)
        joined = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        report = Path(folder, f"rank{os.environ.get('RANK', '0')}")
        report.write_text(f"{joined} {hashlib.sha256(content).hexdigest()}")
        finish(self)

    engine.Engine._finish = report_and_finish


def train(folder: str, settings: dict, *moments: str) -> None:
    count = settings.pop("count", 40)
    for name in ("evaluate_on", "streams"):  # numbers of images
        counts = settings.pop(name, {})
        settings[name] = {one: toy_data(number, seed=1) for one, number in counts.items()}
    for plugin in settings.pop("others", []):
        plugins().register(import_module(plugin), plugin)
    if "plugin" in settings:
        module = import_module(settings.pop("plugin"))
        task, data = module.register_tasks()[0](), module.make_dataset(Path(), count, 0)
    else:
        kinds = {"toy": Toy, "plain": Plain, "streaming": StreamingToy, "private": Private}
        kind = kinds[settings.pop("kind", "toy")]
        task, data = kind(**settings.pop("task", {})), toy_data(count)
    if settings.get("schedule") == probe_then_all.name:
        settings["schedule"] = probe_then_all
    if settings.pop("report", False):
        report_last_weights(folder)
    for moment in moments:
        if moment in FAULTS:
            FAULTS[moment]()
    killers = [Killer(moment) for moment in moments if moment not in FAULTS]
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
