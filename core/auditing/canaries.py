"""Canaries: training images with wrong targets, which a model can only know if it remembers them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.auditing.attacks import Attack, Floats, judge
from visiongraft.config import FitConfig
from visiongraft.data.samples import Samples, WrappedSamples
from visiongraft.errors import OptionError
from visiongraft.network import Network
from visiongraft.preparation.building import prepare_run
from visiongraft.registry.callbacks import listen
from visiongraft.schedules import Schedule
from visiongraft.seeds import mix_seed
from visiongraft.task import Task
from visiongraft.training.engine import Engine
from visiongraft.training.execution.devices import make_accelerator
from visiongraft.training.grouped.weights import begin_groups
from visiongraft.training.private.accounting import begin_privacy

NAME = "canaries"
FEWEST = 20
TRIES = 100  # to find another target

Measure = Callable[[Network, Samples], Floats]


@dataclass(frozen=True)
class Canaries(WrappedSamples):
    """Some training images, a few of them with the target of another.

    Attributes:
        base: The training images.
        positions: Which of them, in order.
        targets: Wrong targets by position in ``base``.
    """

    positions: tuple[int, ...]
    targets: dict[int, Any]

    def __len__(self) -> int:
        return len(self.positions)

    def position(self, index: int) -> int:
        """Return the position among the training images."""
        return self.positions[index]

    def target(self, index: int) -> Any:
        """Return the target, which is wrong for a canary."""
        position = self.positions[index]
        return self.targets[position] if position in self.targets else self.base.target(position)

    def subset(self, indices: Sequence[int]) -> Canaries:
        """Return some of the images."""
        return Canaries(self.base, tuple(self.positions[i] for i in indices), self.targets)


def attack_canaries(
    config: FitConfig,
    task: Task,
    schedule: Schedule,
    data: Any,
    count: int,
    seed: int,
    measure: Measure,
) -> Attack:
    """Train a run again with canaries, and try to tell those that it saw from others.

    Args:
        config: The settings of the run.
        task: Its task.
        schedule: Its schedule.
        data: Its data, as ``Given`` takes them.
        count: Number of canaries, each of which is in training with a probability of one half.
        seed: Seed of their choice.
        measure: Returns the loss of a network for each of some samples.

    Returns:
        How well losses tell them apart.

    Raises:
        OptionError: There are too few training images.
    """
    accelerator = make_accelerator(config)
    with TemporaryDirectory(prefix="visiongraft-canaries-") as scratch:
        run, _ = prepare_run(data, task, config, schedule, accelerator, None, Path(scratch))
        if len(run.training) < 2 * FEWEST:
            raise OptionError(
                f"canaries are half of the training images at most and {FEWEST} at least, and there are {len(run.training)} "
                "training images"
            )
        if not FEWEST <= count <= len(run.training) // 2:
            raise OptionError(
                f"canaries={count} is not from {FEWEST} to {len(run.training) // 2}, half of the training images"
            )
        whole = run.training
        planted, used = _plant(whole, count, seed)
        unused = {p for p, inside in zip(planted, used, strict=True) if not inside}
        kept = tuple(i for i in range(len(whole)) if i not in unused)
        run = run.on(training=Canaries(whole, kept, planted))
        begin_groups(run, config.groups)
        if config.privacy is not None:
            begin_privacy(run)
        Engine(run, listen([]), accelerator).train()
        losses = measure(run.network, Canaries(whole, tuple(planted), planted))
    return judge(NAME, -losses[used], -losses[~used], seed)


def _plant(samples: Samples, count: int, seed: int) -> tuple[dict[int, Any], NDArray[np.bool_]]:
    """Choose canaries, wrong targets for them, and which are in training.

    Returns:
        Targets by position, and of each whether it is in training.
    """
    generator = np.random.default_rng(mix_seed(seed, NAME))
    chosen = sorted(map(int, generator.choice(len(samples), count, replace=False)))
    targets = {}
    for position in chosen:
        own = repr(samples.target(position))
        for other in generator.integers(0, len(samples), TRIES):
            target = samples.target(int(other))
            if repr(target) != own:
                break
        else:
            raise OptionError(
                "canaries need targets that differ, and all training images have the same"
            )
        targets[position] = target
    inside = generator.random(count) < 0.5
    inside[:2] = True, False  # at least one on either side
    return targets, inside
