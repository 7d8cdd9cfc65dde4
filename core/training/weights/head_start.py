"""Heads in closed form: tasks may compute the start of a new one, and a last one, from features of training images."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast, broadcast_object_list
from torch import Tensor

from visiongraft.backbone import Features
from visiongraft.config import FitConfig
from visiongraft.data.loader import ordered_batches
from visiongraft.errors import PluginError, ScheduleError
from visiongraft.schedules import FULL_RATE_ERRORS, for_started_head, lp_ft
from visiongraft.seeds import mix_seed, seeded
from visiongraft.task import HeadFit, Task
from visiongraft.training.batches.loaders import TRAIN, ImageLoaders
from visiongraft.training.batches.sources import ImageBatches, PhaseBatches
from visiongraft.training.run import Run

log = logging.getLogger("visiongraft")

MOST_IMAGES = 2000  # with more, the steps of one epoch find the head as well


def starts_head(task: Task, config: FitConfig) -> bool:
    """Check whether a run has a new head on a pretrained backbone that its task can start.

    A private run does not: a start would be computed from training images without noise.
    """
    new = config.weights is not None and config.start is None
    return task.starts_head and new and config.privacy is None


def fit_schedule_to_head(run: Run) -> None:
    """Let the built-in schedules train a head that has a good start at a lower rate, if they train it alone.

    At the rate for random heads a few steps would undo it. ``lp_ft`` also fits such a head anew at the end.
    Options that the user set are kept.

    Args:
        run: The run, before its first step.

    Raises:
        ScheduleError: ``lp_ft(refit=True)`` asks for what the run cannot do at its end.
    """
    refits = run.schedule.generate is lp_ft.generate and run.schedule.options.get("refit")
    reason = _why_no_refit(run.network.task, run.config) if refits else ""
    if reason:  # known now, not only once all else is trained
        raise ScheduleError(
            f"lp_ft(refit=True) fits the head anew at the end, {reason}; pass lp_ft(refit=False)"
        )
    if starts_head(run.network.task, run.config):
        pays = run.network.task.refits_head and refit_pays(run.config, len(run.training))
        run.schedule = for_started_head(run.schedule, pays)
        run.config = replace(run.config, schedule=run.schedule.to_json())


def refit_pays(config: FitConfig, images: int) -> bool:
    """Check whether a head that is fitted to features of training images alone ends a run well.

    Not if there are more of them than it is fitted to, nor if weights of several epochs are averaged, a
    transfer loss trains the head as well, or groups share the loss: such a head knows nothing of these.

    Args:
        config: The settings of the run.
        images: Number of its training images.
    """
    averages = (config.ema, config.swa, config.keep_epochs) != (None, None, None)
    transfers = bool(config.transfer_loss or config.streams)
    others = averages or transfers or config.group_training is not None
    return images <= MOST_IMAGES and not others


def start_head(
    images: ImageLoaders,
    batches: PhaseBatches,
    processes: int,
    among: Sequence[int] | None = None,
) -> HeadStart | None:
    """Let the task set the weights of a new head on a pretrained backbone, before the first step.

    Nothing is done if the first phase does not train the head.

    Args:
        images: The samples of the run, and its network, set up for the first phase.
        batches: The batches of the first phase, which may be cached features.
        processes: Number of processes of the run.
        among: The training images that may be used; ``None`` for all.

    Returns:
        What the task says of it; ``None`` if it did nothing.
    """
    network = images.network
    trains = any(p.requires_grad for p in network.head.parameters())
    if not (trains and starts_head(network.task, images.config)):
        return None
    fit, count = _fitted(images, batches, processes, among)
    log.info("the head starts from the features of %d training images", count)
    return HeadStart(fit.accuracy, count, dict(fit.facts))


def origin_of(run: Run) -> dict[str, Tensor] | None:
    """Keep the backbone that a run begins with, if its schedule fits the head anew.

    Args:
        run: The run; its network has the weights of the beginning, also if the run is resumed.
    """
    if not run.schedule.options.get("refit"):
        return None
    return {n: t.detach().clone() for n, t in run.network.backbone.state_dict().items()}


def refit_head(
    images: ImageLoaders,
    processes: int,
    start: Mapping[str, Any],
    origin: Mapping[str, Tensor] | None,
) -> HeadRefit:
    """Let the task fit the head anew to the present features of training images.

    If the head's start was wrong for 20 % or more of the images that it was not fitted to, and the new head is no
    better, training has taught the backbone nothing, even of images that it saw: the backbone becomes the one of
    the beginning again.

    Args:
        images: The samples of the run, and its network, set up for the phase.
        processes: Number of processes of the run.
        start: The values of the ``HeadStart`` of the run; empty if there is none.
        origin: The backbone of the beginning; ``None`` to keep the present one in any case.

    Returns:
        How well it fits, and whether the backbone went back.

    Raises:
        ScheduleError: The task cannot, the head does not train, or the run is private.
    """
    network = images.network
    reason = _why_no_refit(network.task, images.config)
    if not all(p.requires_grad for p in network.head.parameters()):
        reason = "which the phase does not train"
    if reason:
        raise ScheduleError(f"refit_head=True of a phase fits the head anew, {reason}")
    batches = ImageBatches(images, augment=False)
    first = HeadFit(start.get("accuracy"), start.get("facts", {}))
    fit, count = _fitted(images, batches, processes, first=first)
    log.info("the head is fitted anew to the features of %d training images", count)
    before, after = first.accuracy, fit.accuracy
    kept = HeadRefit(after, count, reverted=False)
    if origin is None or before is None or after is None:
        return kept
    # Training saw the images that a fit leaves out, so that the later accuracy flatters: if it has gained
    # nothing, it has gained nothing on other images either. Of few errors chance may leave as many.
    if 1 - before < FULL_RATE_ERRORS - 1e-9 or after > before + 1e-9:
        return kept
    log.warning(
        "training the backbone mended no errors (left-out training images: %.1f%% right before, %.1f%% after), "
        "so it goes back to the weights that it began with; more images, or a lower learning rate, may help",
        100 * before,
        100 * after,
    )
    network.backbone.load_state_dict(origin)
    fit, _ = _fitted(images, batches, processes, first=first)
    return HeadRefit(fit.accuracy, count, reverted=True)


def _why_no_refit(task: Task, config: FitConfig) -> str:
    """Return why the head of a run cannot be fitted anew; empty if it can."""
    if not task.refits_head:
        return f"which task {task.name!r} cannot with these options"
    if config.privacy is not None:
        return "but a private run computes nothing from training images without noise"
    return ""


def _fitted(
    images: ImageLoaders,
    batches: PhaseBatches,
    processes: int,
    among: Sequence[int] | None = None,
    first: HeadFit | None = None,
) -> tuple[HeadFit, int]:
    """Let the task compute the weights of the head, alike in all processes, and count the images it saw."""
    network, config = images.network, images.config
    known = range(len(images.training)) if among is None else among
    order = np.random.default_rng(mix_seed(config.seed, "head")).permutation(known)
    seen = _TrainingFeatures(images, batches, sorted(order[:MOST_IMAGES].tolist()))
    network.eval()
    with seeded(config.seed, "head"), torch.no_grad():
        fit = network.task.start_head(network.head, seen, first) or HeadFit()
    if not isinstance(fit, HeadFit):
        raise PluginError(
            f"start_head of task {network.task.name!r} returned {type(fit).__name__}, not HeadFit or None"
        )
    if processes > 1:  # sums may differ in the last bit
        for tensor in network.head.state_dict().values():
            tensor.copy_(broadcast(tensor.contiguous()))
        (fit,) = broadcast_object_list([fit])
    return fit, len(seen.chosen)


@dataclass(frozen=True)
class HeadStart:
    """How a head started.

    Attributes:
        accuracy: See ``HeadFit``.
        images: Number of images that it started from.
        facts: See ``HeadFit``.
    """

    accuracy: float | None
    images: int
    facts: dict[str, Any]


@dataclass(frozen=True)
class HeadRefit:
    """How a head was fitted anew.

    Attributes:
        accuracy: See ``HeadFit``; for the features that it was fitted to in the end.
        images: Number of images that it was fitted to.
        reverted: Whether the backbone went back to the weights that the run began with.
    """

    accuracy: float | None
    images: int
    reverted: bool


@dataclass(frozen=True)
class _TrainingFeatures:
    """Features and targets of training images, in batches; each iteration computes them again."""

    images: ImageLoaders
    batches: PhaseBatches
    chosen: Sequence[int]

    def __iter__(self) -> Iterator[tuple[Features, Any]]:
        network = self.images.network
        plan = ordered_batches(len(self.chosen), self.images.plain_batch_size)
        rows = [[self.chosen[i] for i in part] for part in plan]
        for batch in self.batches.evaluation(TRAIN, rows):
            moved = batch.to(self.images.device)
            yield network.backbone(moved.images), moved.targets
