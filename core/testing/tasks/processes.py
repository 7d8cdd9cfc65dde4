"""Checks of a task in other processes: two that train it together, one that predicts."""

from __future__ import annotations

import json
import math
from copy import deepcopy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from visiongraft.loss_parts import read_parts
from visiongraft.schedules import Phase
from visiongraft.seeds import seeded
from visiongraft.testing.equality import difference, same
from visiongraft.testing.report import Attempt, Checks, Fault, expect, trying
from visiongraft.testing.tasks.runs import expect_near_losses
from visiongraft.testing.tasks.saving import as_texts, some_images
from visiongraft.testing.tasks.trial import BATCH, TOGETHER, TaskTrial
from visiongraft.testing.tasks.two_processes import Together, save_images, start_together
from visiongraft.training.trainable import apply_phase

check = Checks(TaskTrial.of)


@check("task.Task.build_loss")
def two_processes_train_alike(trial: TaskTrial) -> None:
    """Training with two processes works, and equals training with one if nothing is random.

    A loss over pairs is exempt from the second part because each process forms its own pairs.
    """
    training, together = Attempt("to train in two processes"), _together(trial)
    one, other = together.options
    expect(
        one == other,
        f"{training.tried}, each of which reads the data",
        f"options {one} and {other} of the bound task",
        "equal options: class names need a fixed order, not that of a set",
        "task.Task.bind",
    )
    one, other = together.metrics
    training.expect(same(one, other), f"metrics {one} and {other}", "the same metrics in both")
    equal, finite = len(set(together.weights)) == 1, all(map(math.isfinite, together.losses))
    training.expect(equal, "other weights in each", "the same weights in both")
    training.expect(finite, f"{together.losses}", "finite losses")
    if trial.task.loss_over_pairs or _trains_at_random(trial):
        return
    alone = trial.fit("to train in one process", **together.settings).run.history
    for record, loss in zip(alone, together.losses, strict=True):
        expect_near_losses(
            record["train"]["loss"],
            loss,
            2e-3,
            "to train in one process and in two, with the same total batch size",
            "equal losses: loss parts must be means over samples",
        )


@check("model.TransferModel.save")
def another_process_predicts_the_same(trial: TaskTrial) -> None:
    """A saved model makes the same predictions in a process that did not train it."""
    found = _together(trial).predictions
    words = "to load a saved model in another process and predict"
    expected = "the predictions of the process that trained it: all state must be in options, "
    expected += "parameters and buffers, not in the module or the class"
    if isinstance(found, str):
        raise Fault(words, found, expected, "task.Task.bind")
    here = as_texts(trial.trained().model.predict(some_images(trial)))
    for one, other in zip(here, found, strict=True):
        # Processes may use different numbers of threads, which round differently.
        apart = difference(json.loads(one), json.loads(other), 1e-3)
        expect(not apart, words, f"{other}, not {one}", expected)


def _together(trial: TaskTrial) -> Together:
    """Train once in two processes, one of which first predicts with a saved model."""

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

    return trial.once("processes", start)


def _evenly(images: int) -> int:
    """Choose a batch size with which one process and two use the same batches, also the last."""
    return next((n for n in (BATCH, 6, 10, 12, 14) if images % n not in (2, 3)), BATCH)


def _trains_at_random(trial: TaskTrial) -> bool:
    """Check whether dropout, batch norm or the like make training differ between processes."""
    network, batch = trial.together(TOGETHER, training=True)
    network = deepcopy(network)
    parts: tuple[nn.Module, ...] = (network.head, network.loss)
    if any(isinstance(m, _BatchNorm) for part in parts for m in part.modules()):
        return True
    apply_phase(network, Phase(1, "head"))
    with torch.no_grad(), seeded(0):  # a layer that begins with zeros would hide dropout before it
        for parameter in network.head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    network.train()
    losses = []
    for seed in range(2):
        with torch.no_grad(), seeded(seed), trying("to compute the loss of a training batch"):
            found = read_parts(network(batch), network.task.name)
            losses.append({name: part.mean for name, part in found.items()})
    return losses[0] != losses[1]


PROCESS_CHECKS = tuple(check)
