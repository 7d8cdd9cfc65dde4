"""Checks that a task learns, also in bfloat16."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from visiongraft.data.samples import Samples
from visiongraft.testing.report import Attempt, Checks, expect, trying
from visiongraft.testing.tasks.metrics import best_of, bounds_of
from visiongraft.testing.tasks.trial import TOGETHER, TaskTrial, score

check = Checks(TaskTrial.of)


@check("task.Task.build_loss")
def a_few_images_are_overfit(trial: TaskTrial) -> None:
    """The task overfits a few images: the loss falls, and the headline gets close to its best."""
    trained = trial.trained()
    task = trained.model.task
    samples = trial.samples() if task.inputs.drawn else trained.run.training
    steps = len(trained.losses)
    tenth = max(steps // 10, 1)
    first, last = (
        sum(part["loss"] for part in some) / tenth
        for some in (trained.losses[:tenth], trained.losses[-tenth:])
    )
    training = Attempt(f"to train on {len(samples)} images for {steps} steps")
    got = f"a loss that went from {first:.4g} to {last:.4g}"
    training.expect(task.adversarial or last < first, got, "a decreasing loss")
    before = trial.measure(trial.network(), samples)
    after = trial.measure(trial.overfit(), samples)
    training.expect(
        _is_near_best(task, before, after),
        f"{task.headline} {after:.4g} on those images, {before:.4g} without training",
        f"a value near {best_of(task):g}: check that the loss optimizes what the headline measures, "
        "and that the example dataset can be learned",
        "task.Task.decode",
    )
    if task.inputs.drawn or task.targets_in_common:  # targets belong to none in particular
        _expect_variety(trial)
        return
    mixed_up = _mixed_up(trial, samples)
    if mixed_up is not None:
        least = 0.01 * max(abs(after), abs(mixed_up))  # more than rounding
        expect(
            (after - mixed_up if task.better == "higher" else mixed_up - after) > least,
            f"{training.tried}, and measure each image by the target of another image",
            f"{task.headline} {mixed_up:.4g}, no worse than the {after:.4g} of the right targets",
            "a worse value: results must depend on the image",
            "task.Task.build_head",
        )


@check("task.Task.training_step")
def half_precision_trains(trial: TaskTrial) -> None:
    """Training in bfloat16 has finite losses, and results are float32."""
    trained = trial.fit("to train in bfloat16", schedule="full", epochs=1, precision="bf16")
    network = trained.model.network.eval()
    batch = trial.batch(network, range(2))
    words, see = "to decode the outputs of a network in bfloat16", "task.Task.decode"
    expected = "float32: decode begins with outputs.float()"
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), trying(words) as decoding:
        decoded = network.decode(batch.images, batch.sizes)
    for name, value in decoded.items():
        full = value.dtype not in (torch.bfloat16, torch.float16)
        decoding.expect(full, f"{name!r} in {value.dtype}", expected, see)


def _is_near_best(task: Any, before: float, after: float) -> bool:
    """Check whether training brought the headline halfway to its best, or to within a tenth of it."""
    best = best_of(task)
    low, high = bounds_of(task)
    sign = 1.0 if task.better == "higher" else -1.0
    if math.isinf(best):
        return sign * after > sign * before
    near = abs(best - after) <= 0.1 * (high - low) if math.isfinite(high - low) else False
    return near or abs(best - after) <= 0.5 * abs(best - before)


def _expect_variety(trial: TaskTrial) -> None:
    """Raise a fault if all samples have the same results."""
    network = trial.overfit()
    decoded = trial.decode(network, trial.batch(network, range(TOGETHER)))
    varied = any((values != values[:1]).any() for values in decoded.values())
    words, see = f"to decode {TOGETHER} {network.task.inputs.name}", "task.Task.inference_step"
    expect(
        varied,
        words,
        "equal results",
        f"results that depend on the {network.task.inputs.name}",
        see,
    )


def _mixed_up(trial: TaskTrial, samples: Samples) -> float | None:
    """Measure images by the targets of other images; ``None`` if targets fit no other image."""
    network, order = trial.overfit(), torch.randperm(len(samples)).tolist()
    batch = next(iter(trial.batches(network, samples, [range(len(samples))])))
    try:
        mixed = replace(batch, targets=network.task.collate([samples.target(i) for i in order]))
        return score(network.task, trial.results(network, mixed), mixed.targets)
    except Exception:  # tasks may fail on targets of other images in any way
        return None


LEARNING_CHECKS = tuple(check)
