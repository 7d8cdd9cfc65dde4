"""The batches of a phase: from images, or from cached features."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from visiongraft.caching.plan import PROBE_BATCH, ReplayPlan, plan_replay
from visiongraft.caching.store import Replay, Store
from visiongraft.data.batch import Batch
from visiongraft.data.loader import pixels_at_once, split_by_size
from visiongraft.errors import ReplayError
from visiongraft.schedules import Phase
from visiongraft.system.byte_sizes import readable_size
from visiongraft.training.batches.filling import all_shared, fill_stores
from visiongraft.training.batches.loaders import TRAIN, ImageLoaders

log = logging.getLogger("visiongraft")


@dataclass
class ImageBatches:
    """Decodes and augments images anew in every epoch."""

    images: ImageLoaders
    augment: bool

    @property
    def mixes(self) -> bool:
        """Whether samples of a batch may be mixed with each other."""
        return self.augment and self.images.config.views is None

    def train(self, plan: Sequence[Sequence[int]], epoch: int) -> Iterator[Batch]:
        """Load training images."""
        view = self.images.view(epoch, self.augment)
        keys = [[(i, view) for i in batch] for batch in plan]
        return self.images.loader(TRAIN, self.augment).batches(keys)

    def evaluation(self, part: str, plan: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """Load the images of a part to evaluate."""
        keys = [[(i, 0) for i in batch] for batch in plan]
        return self.images.loader(part).batches(keys)


@dataclass
class CachedBatches:
    """Loads the cached features of the frozen stages."""

    images: ImageLoaders
    augment: bool
    replay: Replay
    stores: dict[str, Store]
    mixes: bool = False

    def train(self, plan: Sequence[Sequence[int]], epoch: int) -> Iterator[Batch]:
        """Load the features of training images."""
        offset = self.images.view(epoch, self.augment) * len(self.images.training)
        return self._play(TRAIN, plan, offset)

    def evaluation(self, part: str, plan: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """Load the features of the images of a part to evaluate."""
        if self.images.network.one_size:
            sizes, pixels = self.stores[part].sizes, pixels_at_once(self.images.device)
            plan = [each for batch in plan for each in _split(batch, sizes, pixels)]
        return self._play(part, plan, 0)

    def _play(self, part: str, plan: Sequence[Sequence[int]], offset: int) -> Iterator[Batch]:
        store, device = self.stores[part], self.images.device
        collate = self.images.network.task.collate
        for indices in plan:
            rows = [offset + i for i in indices]
            yield Batch(
                images=self.replay.load(store, rows, device),
                targets=collate([store.targets[row] for row in rows]),
                sizes=torch.from_numpy(store.sizes[rows]),
                indices=torch.tensor(indices, dtype=torch.int64),
            )


PhaseBatches = ImageBatches | CachedBatches


def _split(batch: Sequence[int], sizes: NDArray[np.int64], pixels: int) -> list[list[int]]:
    groups = split_by_size([tuple(sizes[index].tolist()) for index in batch], pixels)
    return [[batch[position] for position in group] for group in groups]


def choose_batches(
    images: ImageLoaders,
    phase: Phase,
    stack: ExitStack,
    *,
    folder: Path,
    processes: int = 1,
    decided: bool | None = None,
) -> tuple[PhaseBatches, bool]:
    """Decide whether a phase uses cached features, and create its batches.

    The decision depends on the settings and the data alone, never on timing, so that equal runs
    stay equal.

    Args:
        images: The run's samples; their network is prepared for the phase.
        phase: The phase.
        stack: Ends the replay with the phase.
        folder: Where to store.
        processes: Number of processes of the run.
        decided: The decision before the run was interrupted.

    Returns:
        The batches, and whether they come from cached features.

    Raises:
        ReplayError: Replay was demanded and is impossible.
    """
    augment = phase.augment and images.transform is not None
    plan, reason = _decide(images, phase, folder, processes, decided)
    demanded = images.config.replay == "on" or decided is True
    if reason and demanded and not _everything_trains(images, phase):
        raise ReplayError(f"replay was requested but is impossible: {reason}")
    if reason or decided is False:
        log.info("no replay: %s", reason or "as before the interruption")
        return ImageBatches(images, augment), False
    replay = stack.enter_context(Replay(images.network, plan, folder, images.config.replay_dtype))
    # A head is fitted anew to a backbone that this run has trained: no other run has its features.
    shares = not phase.refit_head
    stores = fill_stores(images, replay, stored_rows(images, phase), augment, stack, shares)
    phase_batches = CachedBatches(images, augment, replay, stores)
    stack.enter_context(replay.playing())
    return phase_batches, True


def foreseen(images: ImageLoaders, phase: Phase, *, folder: Path) -> tuple[bool, bool]:
    """Decide whether a phase of a run in one process is going to use cached features.

    Args:
        images: The run's samples; their network is prepared for the phase.
        phase: The phase.
        folder: Where to store.

    Returns:
        Whether it is, and whether other runs have left all of them.
    """
    plan, reason = _decide(images, phase, folder, 1, None)
    if reason:
        return False, False
    augment = phase.augment and images.transform is not None
    replay = Replay(images.network, plan, folder, images.config.replay_dtype)
    return True, all_shared(images, replay, augment)


def stored_rows(images: ImageLoaders, phase: Phase) -> dict[str, int]:
    """Return the number of rows to store of each part: one for each image and view."""
    augment = phase.augment and images.transform is not None
    views = images.config.views if augment and images.config.views else 1
    return {
        part: len(samples) * (views if part == TRAIN else 1)
        for part, samples in images.parts.items()
    }


def _decide(
    images: ImageLoaders, phase: Phase, folder: Path, processes: int, decided: bool | None
) -> tuple[ReplayPlan, str]:
    """Plan what a phase would store, and return why it does not, or nothing."""
    augment = phase.augment and images.transform is not None
    plan = _plan(images, phase, augment, processes)
    reason = plan.reason
    if not reason and decided is None:
        reason = _over_budget(images, plan, phase, folder)
        if not (reason or images.config.replay == "on"):
            reason = _does_not_pay(plan)
    return plan, reason


def _plan(images: ImageLoaders, phase: Phase, augment: bool, processes: int) -> ReplayPlan:
    config = images.config
    if config.replay == "off":
        return ReplayPlan(reason="switched off")
    if _everything_trains(images, phase):
        return ReplayPlan(reason="every stage trains")
    if augment and not config.views:
        return ReplayPlan(
            reason="images are augmented at random; views=K would repeat K views of each"
        )
    if images.streams:
        names = ", ".join(map(repr, images.streams))
        return ReplayPlan(reason=f"the images of {names} are needed as well")
    if processes > 1:
        return ReplayPlan(reason=f"{processes} processes share the data")
    if images.network.preprocess.config.resize == "pad":
        return ReplayPlan(reason="images of resize='pad' differ in size")
    transfer = images.network.transfer
    reading = transfer.reading_features() if transfer is not None else ""
    if reading:
        return ReplayPlan(reason=f"transfer loss {reading!r} needs the images")
    if phase.epochs < 2 and config.replay == "auto":
        return ReplayPlan(reason="not worthwhile for a single epoch")
    count = len(images.training)
    keys = [(i % count, 0) for i in range(PROBE_BATCH)]
    batch = next(images.loader(TRAIN, augment).batches([keys])).to(images.device)
    preprocess = images.network.preprocess
    whole = preprocess.inputs.blank(1, len(preprocess.config.mean), preprocess.config.size)
    if batch.images.shape[1:] != whole[1:]:
        return ReplayPlan(reason="training samples have another shape than those to evaluate")
    return plan_replay(images.network, batch, config.replay_dtype)


def _everything_trains(images: ImageLoaders, phase: Phase) -> bool:
    network = images.network
    if isinstance(phase.trainable, tuple) or network.adapter_parameters:  # trial runs find out
        return False
    return phase.trainable in ("all", network.backbone.stages[0])


def _does_not_pay(plan: ReplayPlan) -> str:
    if plan.bytes_per_image <= plan.input_bytes:
        return ""
    return (
        f"{readable_size(plan.bytes_per_image)} per image is more than the image itself "
        f"({readable_size(plan.input_bytes)})"
    )


def _over_budget(images: ImageLoaders, plan: ReplayPlan, phase: Phase, folder: Path) -> str:
    total = sum(stored_rows(images, phase).values()) * plan.bytes_per_image
    if total > images.config.replay_budget:
        return f"{readable_size(total)} is over the budget of {readable_size(images.config.replay_budget)}"
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if total > free // 2:
        return f"{readable_size(total)} is more than half of the free {readable_size(free)}"
    return ""
