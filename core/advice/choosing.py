"""``schedule="auto"``: the schedule that a linear probe on the run's own features recommends."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from accelerate import Accelerator

from visiongraft.advice.candidates import Candidate, embed
from visiongraft.advice.evidence import proportion
from visiongraft.advice.opening import open_on_gain
from visiongraft.advice.probes import fit_linear_probe
from visiongraft.advice.recommending import Recommendation, recommend
from visiongraft.advice.sampling import balanced_order, labels_of, renumbered
from visiongraft.inputs import IMAGES
from visiongraft.preparation.arguments import DEFAULT_SCHEDULE, make_schedule, suitable_options
from visiongraft.training.run import Run
from visiongraft.tuning.rehearsal import rehearsal

log = logging.getLogger("visiongraft")

MOST = 1000  # images whose features are computed


def recommend_schedule(run: Run, accelerator: Accelerator) -> Recommendation:
    """Choose the schedule of a run by a linear probe on at most 1000 of its training images.

    Args:
        run: The run, before its first step; it is left as it was.
        accelerator: Device, precision and processes.

    Returns:
        The schedule and why; the default for tasks without a single class per image.

    Raises:
        OptionError: The run has several processes.
        DataError: An image cannot be read.
    """
    task = run.network.task
    labels = labels_of(task, run.training) if task.inputs == IMAGES else None
    if labels is None or len(np.unique(labels)) < 2:
        reason = f"task {task.name!r} has no classes of images that a probe could tell apart"
        return Recommendation(DEFAULT_SCHEDULE, reason)
    order = balanced_order(labels, len(run.training), run.config.seed)[:MOST]
    with rehearsal(run, accelerator, "schedule='auto'") as copy:
        backbone = copy.network.backbone.to(accelerator.device).eval()
        candidate = Candidate(backbone.info.name, backbone, None, accelerator.device)
        features = embed(candidate, run.training.subset(order.tolist())).features
    chosen = renumbered(labels[order])
    found = proportion(fit_linear_probe(features, chosen).left_out == chosen)
    chance = float(np.bincount(chosen).max()) / len(chosen)
    hedge = DEFAULT_SCHEDULE if run.config.adapters else open_on_gain.name
    return recommend(backbone.info.name, found.value, found.low, chance, hedge)


def use_schedule(run: Run, choice: Recommendation, learning_rate: float | None) -> None:
    """Train a run by the schedule that was chosen, and say so as it begins.

    Args:
        run: The run, before its first step.
        choice: The schedule.
        learning_rate: The option of this name, if the user set it.
    """
    suitable = suitable_options(run.network.task, started=run.config.start is not None)
    schedule = make_schedule(choice.schedule, learning_rate, run.config.adapters, suitable)
    run.schedule = schedule
    run.config = replace(run.config, schedule=schedule.to_json())
    run.notes += (str(choice),)
    log.info("%s", choice)
