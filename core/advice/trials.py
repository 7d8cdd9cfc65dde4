"""Evidence trainings: short trainings of more and more of a network, and of a small one from scratch."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch

from visiongraft.advice.evidence import ALL, HEAD, LAST, SCRATCH, Trained
from visiongraft.advice.folds import FoldTrainer, fold_trainer
from visiongraft.config import FitConfig
from visiongraft.data.check import CheckedSplits
from visiongraft.data.images import DatasetSamples
from visiongraft.data.samples import Samples
from visiongraft.errors import OptionError, VisiongraftError
from visiongraft.preparation.arguments import make_schedule
from visiongraft.preprocess import Preprocess, PreprocessConfig
from visiongraft.schedules import Phase, Schedule, for_started_head, full
from visiongraft.scorers import ClassIds
from visiongraft.system.durations import describe_duration
from visiongraft.task import Task
from visiongraft.training.batches.sources import PhaseBatches, choose_batches
from visiongraft.training.phases import set_up_phase
from visiongraft.training.weights.head_start import starts_head

LAST_PART = 3  # a third of the stages, rounded down, are the last ones; at least one
# Parts of the time that is left which a training may take, in the order of the trainings.
TIMES = {SCRATCH: 0.25, HEAD: 0.5, LAST: 0.7, ALL: 1.0}

SMALL_NETWORK = "simple_cnn"
SMALL_SIDE, STORED_SIDE = 32, 40  # pixels of its input, and of the images that it is cropped from
SMALL_EPOCHS = 30
SMALL_SCHEDULE = full(learning_rate=2e-3, layer_decay=1.0, batch_norm="train")


@dataclass
class Trials:
    """Evidence trainings on the images of one dataset.

    Attributes:
        config: Settings of the run that they are for, with the backbone.
        task: The task, bound to its data.
        checked: Readable samples; those of the training split are used.
        labels: int64 (N,), the class id of each training sample as the task has it.
        learning_rate: The option of this name, if the user set it.
        deadline: When all trainings must have ended, by ``time.monotonic``.
        trained: The trainings that there was time for.
        left_out: Why others were not tried.
    """

    config: FitConfig
    task: Task
    checked: CheckedSplits
    labels: ClassIds
    learning_rate: float | None
    deadline: float
    trained: list[Trained] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def run(self, seconds: float) -> None:
        """Train a small network from random weights, and head, last stages and all stages of the backbone.

        The images are divided into three folds. Each training sees two of them and predicts the third, so
        that every image is predicted once. Head and last stages train on cached feature maps without
        augmentation. A training that the time is too short for is left out.

        Args:
            seconds: Time per image of the backbone without gradients.
        """
        for kinds, train in (
            ((SCRATCH,), self._train_small_network),
            ((HEAD, LAST, ALL), partial(self._train_pretrained, seconds)),
        ):
            try:
                train()
            except VisiongraftError as error:
                done = {each.what for each in self.trained} | self.left_out.keys()
                self.left_out |= {kind: str(error) for kind in kinds if kind not in done}

    def _train_pretrained(self, seconds: float) -> None:
        needed = seconds * len(self.labels)  # for feature maps alone
        if needed > self.deadline - time.monotonic():
            raise OptionError(
                f"feature maps alone would take about {describe_duration(needed)}; pass a longer time as within"
            )
        with fold_trainer(self.config, self.task, self.checked, self.labels) as trainer:
            self._train_on_feature_maps(trainer)
            self._train_all(trainer)

    def _train_on_feature_maps(self, trainer: FoldTrainer) -> None:
        run, images = trainer.engine.run, trainer.engine.images
        stages = run.network.backbone.stages
        last = f"last_n(n={max(1, len(stages) // LAST_PART)})"
        with ExitStack() as stack:  # feature maps before the last stages, for the head as well
            kept = replace(self._phase(last, stages), augment=False)
            set_up_phase(run, 0, kept)
            batches, _ = choose_batches(images, kept, stack, folder=run.scratch)
            self._try(trainer, HEAD, "linear_probe", self._phase("linear_probe", stages), batches)
            self._try(trainer, LAST, last, kept, batches)

    def _train_all(self, trainer: FoldTrainer) -> None:
        run, images = trainer.engine.run, trainer.engine.images
        with ExitStack() as stack:
            phase = self._phase("full", run.network.backbone.stages)
            set_up_phase(run, 0, phase)
            batches, _ = choose_batches(images, phase, stack, folder=run.scratch)
            self._try(trainer, ALL, "full", phase, batches)

    def _train_small_network(self) -> None:
        config = replace(
            self.config, backbone=SMALL_NETWORK, weights=None, size=(SMALL_SIDE, SMALL_SIDE)
        )
        copies = _shrunk(self.checked.train, config.in_channels)
        with ExitStack() as stack:
            trainer = stack.enter_context(
                fold_trainer(config, self.task, self.checked, self.labels, copies)
            )
            run = trainer.engine.run
            phase = _only_phase(SMALL_SCHEDULE, run.network.backbone.stages, SMALL_EPOCHS)
            set_up_phase(run, 0, phase)
            batches, _ = choose_batches(trainer.engine.images, phase, stack, folder=run.scratch)
            self._try(trainer, SCRATCH, SMALL_SCHEDULE.call, phase, batches)

    def _try(
        self, trainer: FoldTrainer, what: str, schedule: str, phase: Phase, batches: PhaseBatches
    ) -> None:
        """Train a phase, or note why it was not tried."""
        seconds = TIMES[what] * (self.deadline - time.monotonic())
        try:
            right, epochs = trainer.predict(phase, batches, seconds)
        except VisiongraftError as error:
            self.left_out[what] = str(error)
        else:
            self.trained.append(Trained(what, schedule, epochs, right))

    def _phase(self, name: str, stages: tuple[str, ...]) -> Phase:
        """Return what a run with a schedule of a single phase would do."""
        schedule = make_schedule(name, self.learning_rate, ())
        if starts_head(self.task, self.config):
            schedule = for_started_head(schedule)
        return _only_phase(schedule, stages, self.config.epochs)


def _only_phase(schedule: Schedule, stages: tuple[str, ...], epochs: int) -> Phase:
    return next(schedule.phases(stages, epochs))


def _shrunk(samples: Samples, channels: int) -> DatasetSamples:
    """Keep small copies of images in memory."""
    size = (STORED_SIDE, STORED_SIDE)
    shrink = Preprocess(PreprocessConfig(size=size).with_channels(channels))
    kept = []
    for i in range(len(samples)):
        pixels = torch.from_numpy(np.require(samples.load(i, channels), requirements=["C", "W"]))
        small = shrink.resize(pixels[None])[0].round().byte().permute(1, 2, 0)
        kept.append((small.numpy(), samples.target(i)))
    return DatasetSamples.of(kept)
