"""One training of the comparison in a process of its own, in which nothing of another one remains.

    python peer_process.py NAME SETTINGS.json [OPTIONS.json]

It prints one JSON object: the seconds of each epoch, the number of steps of an epoch, scores on the validation
images, and ``memory``, by how many megabytes the training raised the peak of the process. All libraries are imported
before, those that visiongraft imports on first use as well.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from typing import Any

import dense_loops
import our_runs
import peer_loops
import torch
from our_runs import scores
from peer_loops import DenseOutcome, Outcome, Settings

import visiongraft.fitting  # noqa: F401
from visiongraft.registry.manager import plugins

RUNS: dict[str, Callable[..., Outcome | DenseOutcome | float]] = {
    "visiongraft": our_runs.classification,
    "bare": peer_loops.bare,
    "timm_style": peer_loops.timm_style,
    "one_pass": peer_loops.one_pass,
    "visiongraft dense": our_runs.dense,
    "torchvision FCOS": dense_loops.fcos,
    "torchvision RetinaNet": dense_loops.retinanet,
    "smp FPN": dense_loops.smp_fpn,
}


def result_of(outcome: Outcome | DenseOutcome | float) -> dict[str, Any]:
    """Return what a run achieved as JSON values."""
    if isinstance(outcome, float):
        return {"seconds": [outcome]}
    if isinstance(outcome, DenseOutcome):
        return {
            "seconds": outcome.seconds,
            "steps": outcome.steps,
            "scores": {"score": outcome.score},
        }
    return {"seconds": outcome.seconds, "scores": scores(outcome)}


def main(arguments: list[str]) -> None:
    name, settings = arguments[0], Settings(**json.loads(arguments[1]))
    options = json.loads(arguments[2]) if len(arguments) > 2 else {}
    torch.set_num_threads(settings.threads)
    plugins().tasks()  # imports the plugins
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = result_of(RUNS[name](settings, **options))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({**result, "memory": grown / 1024}))


if __name__ == "__main__":
    main(sys.argv[1:])
