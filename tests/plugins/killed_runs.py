"""Trains built-in tasks in processes of their own, killed by SIGKILL in the midst of a step.

    python tests/plugins/killed_runs.py TASK FOLDER UPDATE

UPDATE is the update of weights, by whichever optimizer, after which the first process is killed. Then FOLDER/killed is a
run that another process resumed, and FOLDER/whole one that nothing interrupted. Forking saves the imports; no run is ever
made in this process itself.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import visiongraft
from visiongraft.plugins.generation import example as images
from visiongraft.plugins.generation.task import Generation
from visiongraft.plugins.translation import example as pairs
from visiongraft.plugins.translation.task import Translation
from visiongraft.plugins.translation.unpaired import example as kinds
from visiongraft.plugins.translation.unpaired.task import UnpairedTranslation
from visiongraft.plugins.video import example as clips
from visiongraft.plugins.video.task import Video

SMALL: dict[str, Any] = {"latents": 4, "width": 8, "features_size": 32}
COMMON: dict[str, Any] = {
    "weights": None,
    "size": 32,
    "batch_size": 4,
    "workers": 0,
    "device": "cpu",
}
TASKS: dict[str, tuple[Callable[[], Any], Callable[[Path], Any], dict[str, Any]]] = {
    "autoencoder": (
        lambda: Generation("vae", **SMALL),
        lambda folder: images.make_dataset(folder, 15, 0),
        {"backbone": "generation/conv"},
    ),
    "adversarial": (
        lambda: Generation("gan", **SMALL),
        lambda folder: images.make_dataset(folder, 15, 0),
        {"backbone": "generation/conv", "ema": 0.9},
    ),
    "pix2pix": (
        lambda: Translation(adversarial_loss="hinge", channels=8),
        lambda folder: pairs.write_example(folder, 15, seed=0),
        {"backbone": "simple_cnn"},
    ),
    "CycleGAN": (
        lambda: UnpairedTranslation(channels=8, features_size=32),
        lambda folder: kinds.write_example(folder, 12, seed=0),
        {"backbone": "simple_cnn"},
    ),
    "video": (
        lambda: Video(frames=2),
        lambda folder: clips.make_dataset(folder, 15, 0, (), Video(frames=2).inputs),
        {"backbone": "simple_cnn"},
    ),
}


def kill_after(update: int) -> None:
    """Kill this process after a number of updates of weights."""
    left = update

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    register_optimizer_step_post_hook(count)


def train(name: str, data: Path, out: Path, update: int = 0, **more: Any) -> None:
    """Train one task for two epochs, or until it is killed."""
    make_task, make_data, settings = TASKS[name]
    if update:
        kill_after(update)
    visiongraft.fit(
        make_data(data),
        task=make_task(),
        out=out,
        epochs=2,
        schedule="full",
        checkpoint_every=1,
        callbacks=(),
        **COMMON,
        **settings,
        **more,
    )


def in_child(*words: Any, **more: Any) -> int:
    """Train in a process of its own, and return its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            train(*words, **more)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(name: str, folder: Path, update: int) -> None:
    """Make both runs."""
    torch.set_num_threads(1)
    gc.freeze()
    codes = [
        in_child(name, folder / "data", folder / "killed", update),
        in_child(name, folder / "data", folder / "killed", resume=True),
        in_child(name, folder / "other data", folder / "whole"),
    ]
    print(codes)
    assert codes == [-signal.SIGKILL, 0, 0]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
