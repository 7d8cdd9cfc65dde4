"""Checks of a task in other processes: two that train it together, one that only predicts."""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from visiongraft.schedules import Phase
from visiongraft.seeds import seeded
from visiongraft.testing.equality import same
from visiongraft.testing.report import Fault, checks_of, expect, trying
from visiongraft.testing.tasks.saving import as_texts, some_images
from visiongraft.testing.tasks.trial import BATCH, TOGETHER, TaskTrial
from visiongraft.testing.tasks.two_processes import Together, save_images, start_together
from visiongraft.training.freezing import apply_phase

check = checks_of(TaskTrial.of)


@check("task.Task.build_loss")
def two_processes_train_alike(trial: TaskTrial) -> None:
    """Two processes train together, and as one process does where nothing is random.

    A loss over pairs is excepted from the second part: each process has its own pairs.
    """
    words, together = "to train in two processes", _together(trial)
    one, other = together.options
    expect(
        one == other,
        f"{words}, each of which reads the data",
        f"options {one} and {other} of the bound task",
        "the same in both: names in a fixed order, not in that of a set",
        "task.Task.bind",
    )
    one, other = together.metrics
    expect(same(one, other), words, f"metrics {one} and {other}", "the same metrics in both")
    expect(
        len(set(together.weights)) == 1, words, "other weights in each", "the same weights in both"
    )
    expect(all(map(math.isfinite, together.losses)), words, f"{together.losses}", "finite losses")
    if trial.task.loss_over_pairs or _trains_at_random(trial):
        return
    alone = trial.fit("to train in one process", **together.settings).run.history
    for record, loss in zip(alone, together.losses, strict=True):
        expect(
            math.isclose(record["train"]["loss"], loss, rel_tol=2e-3, abs_tol=1e-4),
            "to train in one process and in two, on batches of the same size altogether",
            f"losses {record['train']['loss']:.6g} and {loss:.6g}",
            "equal ones: loss parts are means over samples",
        )


@check("model.TransferModel.save")
def another_process_predicts_the_same(trial: TaskTrial) -> None:
    """A saved model predicts the same in a process that has not trained it."""
    found = _together(trial).predictions
    words = "to load a saved model in another process and predict"
    expected = "what the process that trained it predicts: what the model needs is in its options, "
    expected += "parameters and buffers, not in the module or the class"
    if isinstance(found, str):
        raise Fault(words, found, expected, "task.Task.bind")
    here = json.loads(json.dumps(as_texts(trial.trained().model.predict(some_images(trial)))))
    for one, other in zip(here, found, strict=True):
        expect(_near(json.loads(one), json.loads(other)), words, f"{other}, not {one}", expected)


def _together(trial: TaskTrial) -> Together:
    """Train in two processes, once; one of them predicts with a saved model first."""

    def start() -> Together:
        folder = trial.folder("processes")
        save_images(folder, some_images(trial))
        with trying("to save the model"):
            trial.trained().model.save(folder / "model")
        settings = {
            "backbone": trial.backbone,
            "size": trial.size,
            "schedule": "linear_probe",
            "epochs": 2,
            "batch_size": _evenly(len(trial.example.splits.train)),
            **{k: v for k, v in trial.settings.items() if k != "callbacks"},
        }
        return start_together(trial.task, settings, folder, "to train in two processes")

    return trial.once("processes", start)  # type: ignore[no-any-return]


def _evenly(images: int) -> int:
    """Choose a batch size whose last batch is cut alike for one process and for two."""
    return next((n for n in (BATCH, 6, 10, 12, 14) if images % n not in (2, 3)), BATCH)


def _trains_at_random(trial: TaskTrial) -> bool:
    """Say whether dropout, batch norm or the like makes training differ in each process."""
    network, batch = trial.together(TOGETHER)
    parts: tuple[nn.Module, ...] = (network.head, network.loss)
    if any(isinstance(m, _BatchNorm) for part in parts for m in part.modules()):
        return True
    apply_phase(network, Phase(1, "head"))
    network.train()
    losses = []
    for seed in range(2):
        with torch.no_grad(), seeded(seed), trying("to compute the loss of a training batch"):
            losses.append({n: float(part) for n, part in network(batch).items()})
    return losses[0] != losses[1]


def _near(one: Any, other: Any) -> bool:
    """Compare JSON values; another process may compute with another number of threads."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_near(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_near, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-4) or same(one, other)
    return bool(one == other)


PROCESS_CHECKS = (two_processes_train_alike, another_process_predicts_the_same)
