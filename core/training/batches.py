"""Where a phase's batches come from: pictures, or what replay has stored."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from visiongraft.caching.plan import PROBE_BATCH, ReplayPlan, plan_replay
from visiongraft.caching.store import Replay, Store
from visiongraft.config import FitConfig
from visiongraft.data.loader import (
    BatchLoader,
    Key,
    SampleDataset,
    default_workers,
    ordered_batches,
)
from visiongraft.data.samples import Samples
from visiongraft.errors import ReplayError
from visiongraft.network import Batch, Network
from visiongraft.schedules import Phase
from visiongraft.task import Transform

log = logging.getLogger("visiongraft")

# Small batches keep the activations of a pure inference pass in the processor's cache.
FILL_BATCH_CPU = 8


class Feed(Protocol):
    """Gives the batches of one phase."""

    @property
    def mixes(self) -> bool:
        """Whether samples of a batch may be mixed with each other."""

    def train(self, plan: Sequence[Sequence[int]], epoch: int) -> Iterator[Batch]:
        """Give training batches: the samples of each, in the planned order."""

    def validation(self, plan: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """Give validation batches, likewise."""


@dataclass
class Pictures:
    """The samples of a run, and the loaders that stay alive through all phases.

    Attributes:
        network: Gives task and preprocessing.
        config: Gives seed, views, workers.
        device: Where the network runs.
        training: Training samples.
        held_out: Validation samples.
    """

    network: Network
    config: FitConfig
    device: torch.device
    training: Samples
    held_out: Samples
    _loaders: dict[tuple[str, bool, bool], BatchLoader] = field(default_factory=dict)

    @property
    def transform(self) -> Transform | None:
        """The task's training-time augmentation."""
        return self.network.task.transform_for(self.network.preprocess.config)

    def loader(self, part: str, augment: bool = False, whole: bool = True) -> BatchLoader:
        """Give the loader of ``"train"`` or ``"validation"``; made on first use.

        Args:
            part: Which samples.
            augment: Whether to augment.
            whole: Collate targets; else batches hold a list of them.
        """
        key = (part, augment, whole)
        if key not in self._loaders:
            samples = self.training if part == "train" else self.held_out
            workers = self.config.workers
            self._loaders[key] = BatchLoader(
                SampleDataset(
                    samples,
                    self.network.preprocess_on_cpu(),
                    self.transform if augment else None,
                    self.config.seed,
                ),
                self.network.task.collate if whole else list,
                default_workers(self.device) if workers is None else workers,
                pin_memory=self.device.type == "cuda",
                one_size=part == "validation" and whole and self.network.one_size,
            )
        return self._loaders[key]

    def view(self, epoch: int, augment: bool) -> int:
        """Say which view of the pictures an epoch sees: each its own, or one of a fixed number."""
        if not augment:
            return 0
        return epoch % self.config.views if self.config.views else epoch


@dataclass
class PictureFeed:
    """Decodes and augments pictures anew in every epoch."""

    pictures: Pictures
    augment: bool

    @property
    def mixes(self) -> bool:
        """Whether samples of a batch may be mixed with each other."""
        return self.augment and self.pictures.config.views is None

    def train(self, plan: Sequence[Sequence[int]], epoch: int) -> Iterator[Batch]:
        """Load training pictures."""
        view = self.pictures.view(epoch, self.augment)
        keys = [[(i, view) for i in batch] for batch in plan]
        return self.pictures.loader("train", self.augment).batches(keys)

    def validation(self, plan: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """Load validation pictures."""
        keys = [[(i, 0) for i in batch] for batch in plan]
        return self.pictures.loader("validation").batches(keys)


@dataclass
class ReplayFeed:
    """Plays back what the frozen prefix computed for each picture."""

    pictures: Pictures
    augment: bool
    replay: Replay
    stores: dict[str, Store]
    mixes: bool = False

    def train(self, plan: Sequence[Sequence[int]], epoch: int) -> Iterator[Batch]:
        """Play training pictures back."""
        offset = self.pictures.view(epoch, self.augment) * len(self.pictures.training)
        return self._play("train", plan, offset)

    def validation(self, plan: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """Play validation pictures back."""
        if self.pictures.network.one_size:
            sizes = self.stores["validation"].sizes
            plan = [part for batch in plan for part in _by_size(batch, sizes)]
        return self._play("validation", plan, 0)

    def _play(self, part: str, plan: Sequence[Sequence[int]], offset: int) -> Iterator[Batch]:
        store, device = self.stores[part], self.pictures.device
        collate = self.pictures.network.task.collate
        for indices in plan:
            rows = [offset + i for i in indices]
            yield Batch(
                images=self.replay.load(store, rows, device),
                targets=collate([store.targets[row] for row in rows]),
                sizes=torch.from_numpy(store.sizes[rows]),
                indices=torch.tensor(indices, dtype=torch.int64),
            )


def _by_size(batch: Sequence[int], sizes: NDArray[np.int64]) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for index in batch:
        groups.setdefault(tuple(sizes[index].tolist()), []).append(index)
    return list(groups.values())


def choose_feed(
    pictures: Pictures,
    phase: Phase,
    stack: ExitStack,
    *,
    folder: Path,
    processes: int = 1,
    decided: bool | None = None,
) -> tuple[Feed, bool]:
    """Decide whether a phase is replayed, and make its feed.

    The decision depends on the settings and the data alone, never on timing, so that equal runs
    stay equal.

    Args:
        pictures: The run's samples; their network is prepared for the phase.
        phase: The phase.
        stack: Ends the replay with the phase.
        folder: Where to store.
        processes: Number of processes of the run.
        decided: What was decided before the run was interrupted.

    Returns:
        The feed, and whether it replays.

    Raises:
        ReplayError: Replay was demanded and is impossible.
    """
    augment = phase.augment and pictures.transform is not None
    plan, reason = _plan(pictures, phase, augment, processes)
    demanded = pictures.config.replay == "on" or decided is True
    if not reason and decided is None:
        reason = _over_budget(pictures, plan, augment, folder)
        if not (reason or demanded):
            reason = _does_not_pay(plan)
    if reason and demanded and not _everything_trains(pictures, phase):
        raise ReplayError(f"replay was asked for but is impossible: {reason}")
    if reason or decided is False:
        log.info("no replay: %s", reason or "as before the interruption")
        return PictureFeed(pictures, augment), False
    replay = stack.enter_context(
        Replay(pictures.network, plan, folder, pictures.config.replay_dtype)
    )
    feed = ReplayFeed(pictures, augment, replay, _fill(pictures, replay, plan, augment))
    stack.enter_context(replay.playing())
    return feed, True


def _plan(
    pictures: Pictures, phase: Phase, augment: bool, processes: int
) -> tuple[ReplayPlan, str]:
    config = pictures.config
    if config.replay == "off":
        return ReplayPlan(), "switched off"
    if _everything_trains(pictures, phase):
        return ReplayPlan(), "every stage trains"
    if augment and not config.views:
        return ReplayPlan(), "pictures are augmented at random; views=K would repeat"
    if processes > 1:
        return ReplayPlan(), f"{processes} processes share the data"
    if pictures.network.preprocess.config.resize == "pad":
        return ReplayPlan(), "pictures of resize='pad' differ in size"
    transfer = pictures.network.transfer
    if transfer is not None and transfer.reads_features:
        return ReplayPlan(), f"transfer loss {transfer.name!r} needs the pictures"
    if phase.epochs < 2 and config.replay == "auto":
        return ReplayPlan(), "a single epoch does not pay"
    count = len(pictures.training)
    keys = [(i % count, 0) for i in range(PROBE_BATCH)]
    batch = next(pictures.loader("train", augment).batches([keys])).to(pictures.device)
    plan = plan_replay(pictures.network, batch, config.replay_dtype)
    return plan, plan.reason


def _everything_trains(pictures: Pictures, phase: Phase) -> bool:
    return phase.trainable in ("all", pictures.network.backbone.stages[0])


def _rows(pictures: Pictures, augment: bool) -> int:
    views = pictures.config.views if augment and pictures.config.views else 1
    return len(pictures.training) * views


def _does_not_pay(plan: ReplayPlan) -> str:
    if plan.bytes_per_picture <= plan.input_bytes:
        return ""
    return (
        f"{_size(plan.bytes_per_picture)} a picture is more than the picture itself "
        f"({_size(plan.input_bytes)})"
    )


def _over_budget(pictures: Pictures, plan: ReplayPlan, augment: bool, folder: Path) -> str:
    rows = _rows(pictures, augment) + len(pictures.held_out)
    total = rows * plan.bytes_per_picture
    if total > pictures.config.replay_budget:
        return f"{_size(total)} is over the budget of {_size(pictures.config.replay_budget)}"
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if total > free // 2:
        return f"{_size(total)} is more than half of the free {_size(free)}"
    return ""


def _fill(pictures: Pictures, replay: Replay, plan: ReplayPlan, augment: bool) -> dict[str, Store]:
    rows = {"train": _rows(pictures, augment), "validation": len(pictures.held_out)}
    total = sum(rows.values()) * plan.bytes_per_picture
    log.info(
        "replay: storing %s (%s a picture, %s) for %d training and %d validation rows",
        _size(total),
        _size(plan.bytes_per_picture),
        replay.dtype,
        rows["train"],
        rows["validation"],
    )
    size = FILL_BATCH_CPU if pictures.device.type == "cpu" else pictures.config.batch_size
    stores = {}
    for part, count in rows.items():
        samples = len(pictures.training if part == "train" else pictures.held_out)
        keys: list[list[Key]] = [
            [(row % samples, row // samples) for row in batch]
            for batch in ordered_batches(count, size)
        ]
        loader = pictures.loader(part, augment and part == "train", whole=False)
        stores[part] = replay.record(part, count, loader.batches(keys))
    return stores


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
