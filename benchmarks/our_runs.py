"""visiongraft's trainings in the comparison with other toolkits: its defaults, timed by a callback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer_loops import DenseOutcome, Outcome, Settings

import visiongraft
from visiongraft.plugins.classification.metrics import SingleLabelMetrics

BACKBONE = "bundled/efficientnet_lite0"


class EpochClock:
    """Records the seconds of each training epoch, without validation, and the number of its steps.

    A phase begins with what its epochs need, such as cached features, which its first epoch pays for.

    Args:
        now: Returns the time in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.start = self.last = 0.0
        self.seconds: list[float] = []
        self.steps = 0

    @visiongraft.hookimpl
    def phase_started(self) -> None:
        """Start the clock."""
        self.start = self.now()

    @visiongraft.hookimpl
    def step_ended(self, steps: int) -> None:
        """Note the time; that of the last step remains."""
        self.last, self.steps = self.now(), steps

    @visiongraft.hookimpl
    def epoch_ended(self) -> None:
        """Keep the time of the last step, and start again after validation."""
        self.seconds.append(self.last - self.start)
        self.start = self.now()


def classification(settings: Settings, **options: Any) -> Outcome:
    """Train a classifier with visiongraft's defaults and ``options``."""
    clock = EpochClock(settings.now)
    training, validation = (pairs(Path(settings.data) / split) for split in ("train", "val"))
    few = list({label: (path, label) for path, label in validation}.values())
    model = visiongraft.fit(
        (training, few),  # what it measures after each epoch is not used
        task="classification",
        backbone=BACKBONE,
        size=settings.size,
        seed=settings.seed,
        workers=settings.workers,
        select="last",
        callbacks=[clock],
        **options,
    )
    names = model.task.class_names
    predictions = model.predict([path for path, _ in validation])
    probabilities = np.array([list(p.probabilities.values()) for p in predictions])
    targets = np.array([names.index(label) for _, label in validation])
    return Outcome(probabilities, targets, clock.seconds)


def pairs(folder: Path) -> list[tuple[Path, str]]:
    """Return all images of a folder with their class names."""
    return [(path, path.parent.name) for path in sorted(folder.glob("*/*"))]


def scores(outcome: Outcome) -> dict[str, float]:
    """Return accuracy and calibration error."""
    classes = outcome.probabilities.shape[1]
    metrics = SingleLabelMetrics([str(i) for i in range(classes)])
    decisions = outcome.probabilities.argmax(axis=1)
    arrays = {"probabilities": outcome.probabilities, "labels": decisions}
    metrics.update(arrays, torch.from_numpy(outcome.targets))
    results = metrics.compute()
    return {name: results[name] for name in ("accuracy", "calibration_error")}


def dense(
    settings: Settings, task: str, task_options: dict[str, Any], **options: Any
) -> DenseOutcome:
    """Train a detector or a segmentation network with visiongraft's defaults and ``options``."""
    clock = EpochClock(settings.now)
    model = visiongraft.fit(
        settings.data,
        task=task,
        task_options=task_options,
        backbone=BACKBONE,
        size=settings.size,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        workers=settings.workers,
        select="last",
        callbacks=[clock],
        **options,
    )
    return DenseOutcome(model.facts["metrics"][model.task.headline], clock.seconds, clock.steps)
