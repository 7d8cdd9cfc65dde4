"""Evidence trainings: short trainings of more and more of a network, and of a small one from scratch."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch

from visiongraft.advice.candidates import Embedded
from visiongraft.advice.evidence import ALL, HEAD, LAST, SCRATCH, Trained
from visiongraft.advice.folds import (
    FEWEST_EPOCHS,
    FOLDS,
    FoldTrainer,
    fold_trainer,
    folds_of,
    too_slow,
)
from visiongraft.advice.probes import fit_linear_probe
from visiongraft.config import FitConfig
from visiongraft.data.check import CheckedSplits
from visiongraft.data.images import DatasetSamples
from visiongraft.data.samples import Samples
from visiongraft.errors import VisiongraftError
from visiongraft.preparation.arguments import make_schedule
from visiongraft.preprocess import Preprocess, PreprocessConfig
from visiongraft.schedules import Phase, Schedule, for_started_head, full
from visiongraft.scorers import ClassIds, Floats
from visiongraft.task import Task
from visiongraft.training.batches.sources import choose_batches
from visiongraft.training.phases import set_up_phase
from visiongraft.training.weights.head_start import starts_head

FEWEST_IMAGES = 2 * FOLDS  # two to predict by each training
LAST_PART = 3  # a third of the stages, rounded down, are the last ones; at least one
# Parts of the time that is left which a training may take, in the order of the trainings.
TIMES = {SCRATCH: 0.25, LAST: 0.7, ALL: 1.0}

SMALL_NETWORK = "simple_cnn"
SMALL_SIDE, STORED_SIDE = 32, 40  # pixels of its input, and of the images that it is cropped from
SMALL_EPOCHS, FEWEST_SMALL_EPOCHS = 30, 10
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

    def run(self, embedded: Embedded) -> None:
        """Train a small network from random weights, and head, last stages and all stages of the backbone.

        The images are divided into three folds. Each training sees two of them and predicts the third, so
        that every image is predicted once. The head is a linear probe in closed form. The last stages
        train on cached feature maps without augmentation. A training that the time is too short for is
        left out.

        Args:
            embedded: The embeddings of the training samples.
        """
        if len(self.labels) < FEWEST_IMAGES:
            reason = f"it takes {FEWEST_IMAGES} images, and there are {len(self.labels)}; add more"
            self.left_out |= dict.fromkeys((HEAD, LAST, ALL, SCRATCH), reason)
            return
        self._fit_head(embedded.features)
        for kinds, train in (
            ((SCRATCH,), self._train_small_network),
            ((LAST, ALL), partial(self._train_pretrained, embedded.seconds)),
        ):
            try:
                train()
            except VisiongraftError as error:
                done = {each.what for each in self.trained} | self.left_out.keys()
                self.left_out |= {kind: str(error) for kind in kinds if kind not in done}

    def _fit_head(self, features: Floats) -> None:
        right = np.zeros(len(self.labels), dtype=np.bool_)
        for kept, held_out in folds_of(self.labels, self.config.seed):
            probe = fit_linear_probe(features[kept], self.labels[kept])
            right[held_out] = probe.predict(features[held_out]) == self.labels[held_out]
        self.trained.append(Trained(HEAD, "linear_probe", None, right))

    def _train_pretrained(self, seconds: float) -> None:
        epoch = seconds * len(self.labels)  # of a pass without gradients
        if epoch > self._left:
            raise too_slow(epoch, self._left)
        with fold_trainer(self.config, self.task, self.checked, self.labels) as trainer:
            self._train_last_stages(trainer)
            # A step takes about three passes; the folds train on twice as many images as there are.
            fewest = 3 * 2 * epoch * min(FEWEST_EPOCHS, self.config.epochs)
            if fewest > self._left:
                raise too_slow(fewest, self._left)
            self._train_all(trainer)

    @property
    def _left(self) -> float:
        return self.deadline - time.monotonic()

    def _train_last_stages(self, trainer: FoldTrainer) -> None:
        stages = trainer.engine.run.network.backbone.stages
        schedule = f"last_n(n={max(1, len(stages) // LAST_PART)})"
        phase = replace(self._phase(schedule, stages), augment=False)
        self._try(trainer, LAST, schedule, phase)

    def _train_all(self, trainer: FoldTrainer) -> None:
        self._try(
            trainer, ALL, "full", self._phase("full", trainer.engine.run.network.backbone.stages)
        )

    def _train_small_network(self) -> None:
        config = replace(
            self.config, backbone=SMALL_NETWORK, weights=None, size=(SMALL_SIDE, SMALL_SIDE)
        )
        copies = _shrunk(self.checked.train, config.in_channels)
        with fold_trainer(config, self.task, self.checked, self.labels, copies) as trainer:
            stages = trainer.engine.run.network.backbone.stages
            phase = _only_phase(SMALL_SCHEDULE, stages, SMALL_EPOCHS)
            self._try(trainer, SCRATCH, SMALL_SCHEDULE.call, phase, FEWEST_SMALL_EPOCHS)

    def _try(
        self,
        trainer: FoldTrainer,
        what: str,
        schedule: str,
        phase: Phase,
        fewest: int = FEWEST_EPOCHS,
    ) -> None:
        """Train a phase, or note why it was not tried."""
        run = trainer.engine.run
        try:
            with ExitStack() as stack:
                set_up_phase(run, 0, phase)
                batches, _ = choose_batches(trainer.engine.images, phase, stack, folder=run.scratch)
                right, epochs = trainer.predict(phase, batches, TIMES[what] * self._left, fewest)
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
