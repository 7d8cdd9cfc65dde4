"""Trainings by folds: each image is predicted by a training that has not seen it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visiongraft.config import FitConfig
from visiongraft.data.check import CheckedSplits
from visiongraft.data.loader import ordered_batches, shuffled_batches
from visiongraft.data.samples import Samples, Splits
from visiongraft.errors import OptionError
from visiongraft.preparation.building import build_run
from visiongraft.preparation.datasets import RunData
from visiongraft.registry.callbacks import listen
from visiongraft.schedules import Phase, full
from visiongraft.scorers import ClassIds
from visiongraft.seeds import mix_seed, seed_everything
from visiongraft.system.durations import describe_duration
from visiongraft.task import Task
from visiongraft.training.batches.loaders import TRAIN
from visiongraft.training.batches.sources import PhaseBatches
from visiongraft.training.class_logits import class_logits
from visiongraft.training.engine import Engine
from visiongraft.training.execution.devices import make_accelerator
from visiongraft.training.optimizers import learning_rate_factor, set_learning_rate
from visiongraft.training.phases import ReadyPhase, ready_steps, set_up_phase
from visiongraft.training.resuming.checkpoint import RunState
from visiongraft.training.resuming.run_folder import scratch_folder
from visiongraft.training.run import Run
from visiongraft.training.selection.criteria import VALIDATION
from visiongraft.training.weights.head_start import start_head

FOLDS = 3
FEWEST_EPOCHS = 2

Rows = NDArray[np.intp]


def folds_of(labels: ClassIds, seed: int) -> list[tuple[Rows, Rows]]:
    """Divide images into folds that have classes in the same proportions.

    Args:
        labels: int64 (N,), class ids.
        seed: Seed of the division.

    Returns:
        For each fold the images to train on, and those to predict.
    """
    generator = np.random.Generator(np.random.PCG64(mix_seed(seed, "folds")))
    order = generator.permutation(len(labels))
    grouped = order[np.argsort(labels[order], kind="stable")]  # the images of each class in turn
    parts = [np.sort(grouped[first::FOLDS]) for first in range(FOLDS)]
    return [(np.setdiff1d(order, part), part) for part in parts]


def too_slow(seconds: float, left: float) -> OptionError:
    """Return the error for a training that there is no time for.

    Args:
        seconds: Time that it would take.
        left: Time that there is for it.
    """
    words = "no time is left for it"
    if left > 0:
        words = f"it would take about {describe_duration(seconds)}, and {describe_duration(left)} are left for it"
    return OptionError(f"{words}; pass a longer time as within")


@dataclass(frozen=True)
class FoldTrainer:
    """Trains one network again and again from the same start.

    Attributes:
        engine: The engine of a run on all images.
        labels: int64 (N,), the class id of each training sample.
        start: The tensors that each training starts from.
    """

    engine: Engine
    labels: ClassIds
    start: dict[str, Tensor]

    def predict(
        self, phase: Phase, batches: PhaseBatches, seconds: float, fewest: int = FEWEST_EPOCHS
    ) -> tuple[NDArray[np.bool_], int]:
        """Train a phase on all folds but one, and predict that one; for each fold.

        Args:
            phase: The phase; fewer of its epochs are run if the time is too short for them.
            batches: Where the batches come from.
            seconds: Time that this may take.
            fewest: Epochs that it must be enough for, or all of them if there are fewer.

        Returns:
            bool (N,), whether each image was predicted right; and the number of epochs.

        Raises:
            OptionError: The time is too short.
        """
        folds = folds_of(self.labels, self.engine.run.config.seed)
        epochs = self._epochs(phase, batches, folds[0][0], seconds, fewest)
        right = np.zeros(len(self.labels), dtype=np.bool_)
        for fold, (kept, held_out) in enumerate(folds):
            with self._ready(phase, batches, fold) as ready:
                start_head(self.engine.images, batches, 1, kept.tolist())
                self._train(ready, kept, epochs)
                right[held_out] = self._predicted(batches, held_out) == self.labels[held_out]
        return right, epochs

    def _epochs(
        self, phase: Phase, batches: PhaseBatches, kept: Rows, seconds: float, fewest: int
    ) -> int:
        """Return how many epochs there is time for, by timing a step."""
        size = self.engine.run.config.batch_size
        with self._ready(phase, batches, FOLDS) as ready:
            self._train(ready, kept[:size], 1)  # the first step allocates memory
            began = time.perf_counter()
            self._train(ready, kept[:size], 1)
        each = (time.perf_counter() - began) / min(size, len(kept))
        # A pass without gradients takes about a third of a step; the folds predict all images together,
        # and the head starts from those that train.
        passes = (len(self.labels) + FOLDS * len(kept)) / 3
        possible = int((seconds / each - passes) / (FOLDS * len(kept)))
        fewest = min(fewest, phase.epochs)
        if possible < fewest:
            raise too_slow(each * (passes + fewest * FOLDS * len(kept)), seconds)
        return min(phase.epochs, possible)

    @contextmanager
    def _ready(self, phase: Phase, batches: PhaseBatches, fold: int) -> Iterator[ReadyPhase]:
        """Make a phase ready at the start, within a block."""
        run = self.engine.run
        run.network.load_state_dict(self.start)
        run.state = RunState()
        seed_everything(mix_seed(run.config.seed, "trial", fold))
        made = set_up_phase(run, 0, phase)
        with ready_steps(run, phase, made, batches, self.engine.accelerator) as ready:
            yield ready

    def _train(self, ready: ReadyPhase, kept: Rows, epochs: int) -> None:
        """Train on some of the images."""
        run, steps = self.engine.run, self.engine.steps
        for epoch in range(epochs):
            plan = shuffled_batches(len(kept), run.config.batch_size, run.config.seed, epoch)
            rows = [[int(kept[i]) for i in batch] for batch in plan]
            loaded = ready.batches.train(rows, epoch)
            ready.model.train()
            run.state.epoch, run.state.step, steps.count = epoch, 0, len(plan)
            for batch in rows:
                done = epoch * len(plan) + run.state.step
                factor = learning_rate_factor(done, epochs * len(plan), ready.phase.shape)
                for each in ready.optimizers:
                    set_learning_rate(each.optimizer, factor)
                steps.step(ready.model, ready.optimizers, [[batch]], loaded, ready.batches.mixes)
                run.state.step, run.state.steps = run.state.step + 1, run.state.steps + 1

    def _predicted(self, batches: PhaseBatches, held_out: Rows) -> ClassIds:
        """Predict the class of some images."""
        network, device = self.engine.run.network.eval(), self.engine.device
        plan = ordered_batches(len(held_out), self.engine.images.plain_batch_size)
        order: list[int] = []
        found: list[Tensor] = []
        for batch in batches.evaluation(TRAIN, [[int(held_out[i]) for i in b] for b in plan]):
            moved = batch.to(device)
            with torch.no_grad():
                outputs = network.task.inference_step(network, moved.images)
                logits = class_logits(network.task, outputs, "an evidence training")
            order += batch.indices.tolist()
            found.append(logits.argmax(1).cpu())
        return np.asarray(torch.cat(found).numpy()[np.argsort(order)], dtype=np.int64)


@contextmanager
def fold_trainer(
    config: FitConfig,
    task: Task,
    checked: CheckedSplits,
    labels: ClassIds,
    copies: Samples | None = None,
) -> Iterator[FoldTrainer]:
    """Build the network that is trained by folds, within a block.

    Args:
        config: Settings of the run that it is for.
        task: The task, bound to its data.
        checked: Readable samples; those of the training split are used.
        labels: int64 (N,), the class id of each of them.
        copies: Other copies of these samples to train on.

    Yields:
        The trainer.
    """
    data = RunData(task, task, Splits(checked.train, checked.validation), checked, {}, {})
    with scratch_folder() as scratch:
        run = _with_one_validation_image(build_run(config, full, data, None, scratch))
        if copies is not None:
            run = run.on(training=copies)
        engine = Engine(run, listen(()), make_accelerator(config))
        start = {name: tensor.clone() for name, tensor in run.network.state_dict().items()}
        yield FoldTrainer(engine, labels, start)


def _with_one_validation_image(run: Run) -> Run:
    """Keep features of validation images, which nobody evaluates, from being cached."""
    digests = {part: each[:1] if part == VALIDATION else each for part, each in run.digests.items()}
    return replace(run, validation=run.validation.subset([0]), digests=digests)
