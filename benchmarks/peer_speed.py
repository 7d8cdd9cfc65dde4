"""Ratios of times and of peak memory between visiongraft and its peers; run by ``peers.py speed``.

Each part runs its trainings one after the other, each in a process of its own, and yields ratios of them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from our_runs import scores
from peer_loops import Outcome, Settings

HERE = Path(__file__).parent
FROZEN_EPOCHS, FULL_EPOCHS = 20, 3
EPOCHS_TO_ACCURACY = (1, 2, 3, 5, 7, 10)
SEGMENTATION = {"decoder": "fpn"}  # smp's FPN
DETECTION = {"head": "fcos"}

Ratios = Iterator[tuple[str, float]]


@dataclass(frozen=True)
class Peers:
    """What the parts of the comparison need.

    Attributes:
        common: What all trainings have in common.
        fastai: An interpreter that has fastai.
        boxes: A dataset for detection; ``None`` leaves the part out.
        masks: A dataset for segmentation; ``None`` leaves the part out.
    """

    common: Settings
    fastai: str
    boxes: Path | None = None
    masks: Path | None = None


def run(name: str, settings: Settings, **options: Any) -> dict[str, Any]:
    """Run one training in a process of its own, without features that others cached."""
    command = [sys.executable, str(HERE / "peer_process.py"), name]
    return _answer([*command, json.dumps(asdict(settings)), json.dumps(options)], name)


def run_fastai(settings: Settings, interpreter: str) -> Outcome:
    """Run fastai's training in its own process and environment."""
    command = [interpreter, str(HERE / "fastai_peer.py"), json.dumps(asdict(settings))]
    found = _answer(command, "fastai")
    probabilities, targets = np.array(found["probabilities"]), np.array(found["targets"])
    return Outcome(probabilities, targets, found["seconds"])


def _answer(command: list[str], name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "VISIONGRAFT_CACHE": cache}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def frozen(peers: Peers) -> Ratios:
    """Compare epochs in which only the head trains, on cached features after the first pass."""
    common = peers.common
    once = sum(run("one_pass", common)["seconds"])
    options = {"epochs": FROZEN_EPOCHS, "schedule": "linear_probe", "batch_size": common.batch_size}
    cached = run("visiongraft", common, **options)["seconds"]
    theirs = run_fastai(replace(common, epochs=0, frozen_epochs=3), peers.fastai).seconds
    epoch = statistics.median(theirs[1:])
    yield f"{FROZEN_EPOCHS} frozen epochs / one pass over the images", sum(cached) / once
    yield (
        f"{FROZEN_EPOCHS} frozen epochs: fastai / visiongraft",
        FROZEN_EPOCHS * epoch / sum(cached),
    )
    yield (
        "a frozen epoch after the first: fastai / visiongraft",
        epoch / statistics.median(cached[1:]),
    )


def full(peers: Peers) -> Ratios:
    """Compare epochs in which everything trains, after the first, and peak memory."""
    common = replace(peers.common, epochs=FULL_EPOCHS)
    options = {"epochs": FULL_EPOCHS, "schedule": "full", "batch_size": common.batch_size}
    ours, bare = run("visiongraft", common, **options), run("bare", common)
    yield "full epoch / bare loop", _epoch(ours) / _epoch(bare)
    yield "peak memory of full epochs / bare loop", ours["memory"] / bare["memory"]
    yield "full epoch / timm style", _epoch(ours) / _epoch(run("timm_style", common))
    fastai = run_fastai(replace(common, frozen_epochs=1), peers.fastai).seconds
    yield "full epoch / fastai", _epoch(ours) / statistics.median(fastai[2:])


def _epoch(result: dict[str, Any]) -> float:
    return statistics.median(result["seconds"][1:])


def to_accuracy(peers: Peers) -> Ratios:
    """Compare the training time until fastai's final accuracy is reached."""
    result = run_fastai(peers.common, peers.fastai)
    goal, theirs = scores(result)["accuracy"], sum(result.seconds)
    _say(f"fastai: accuracy {goal:.3f} in {theirs:.1f} s")
    ratio = float("inf")
    for epochs in EPOCHS_TO_ACCURACY:  # shorter runs, each with its own schedule
        own = run("visiongraft", peers.common, epochs=epochs)
        reached, seconds = own["scores"]["accuracy"], sum(own["seconds"])
        _say(f"visiongraft, {epochs} epochs: accuracy {reached:.3f} in {seconds:.1f} s")
        if reached >= goal:
            ratio = seconds / theirs
            break
    yield "training time to fastai's final accuracy / fastai's", ratio


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def dense(peers: Peers) -> Ratios:
    """Compare steps of detection and segmentation with loading, after the first epoch; all train everything."""
    for task, options, data, peer in (
        ("detection", DETECTION, peers.boxes, "torchvision FCOS"),
        ("segmentation", SEGMENTATION, peers.masks, "smp FPN"),
    ):
        if data is None:
            continue
        settings = replace(
            peers.common, data=str(data), epochs=FULL_EPOCHS - 1, batch_size=8, everything=True
        )
        ours = run("visiongraft dense", settings, task=task, task_options=options, schedule="full")
        theirs = run(peer, settings)
        ratio = _epoch(ours) * theirs["steps"] / (_epoch(theirs) * ours["steps"])
        yield f"{task} step / {peer}", ratio
        yield f"peak memory of {task} / {peer}", ours["memory"] / theirs["memory"]


PARTS: dict[str, Callable[[Peers], Ratios]] = {
    "frozen": frozen,
    "full": full,
    "to_accuracy": to_accuracy,
    "dense": dense,
}


def measure(peers: Peers, parts: list[str], rounds: int) -> str:
    """Measure parts in rounds.

    Args:
        peers: What they need.
        parts: Names of ``PARTS``.
        rounds: How often each is measured.

    Returns:
        A table of the medians of the ratios, with their extremes.
    """
    ratios: dict[str, list[float]] = {}
    for number in range(rounds):
        for name in parts:
            for what, ratio in PARTS[name](peers):
                ratios.setdefault(what, []).append(ratio)
                _say(f"round {number + 1}: {what} {ratio:.2f}")
    lines = [f"{'ratio':58} {'median':>8} {'least':>8} {'most':>8}"]
    for what, values in ratios.items():
        middle = statistics.median(values)
        lines.append(f"{what:58} {middle:8.2f} {min(values):8.2f} {max(values):8.2f}")
    return "\n".join(lines)
