"""The samples of a run, and the loaders of their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from visiongraft.config import FitConfig
from visiongraft.data.loader import (
    BatchLoader,
    SampleDataset,
    default_workers,
    pixels_at_once,
)
from visiongraft.data.samples import Samples, Transform
from visiongraft.network import Network
from visiongraft.training.batches.own_augmentation import Augment, training_transform
from visiongraft.training.selection.criteria import VALIDATION

TRAIN = "train"


@dataclass
class ImageLoaders:
    """The samples of a run, and the loaders that stay alive through all phases.

    Attributes:
        network: The network, with task and preprocessing.
        config: Settings; ``seed``, ``views`` and ``workers`` are used.
        device: Where the network runs.
        training: Training samples.
        validation: Validation samples.
        evaluation: Further samples to evaluate, by name.
        streams: Names of the streams that training steps use.
        digests: Digest of the content of each image, by part; a part whose images may change when
            they are loaded again has none.
        augment: The user's own augmentation, in place of the task's.
    """

    network: Network
    config: FitConfig
    device: torch.device
    training: Samples
    validation: Samples
    evaluation: Mapping[str, Samples] = field(default_factory=dict)
    streams: tuple[str, ...] = ()
    digests: Mapping[str, Sequence[str]] = field(default_factory=dict)
    augment: Augment | None = None
    _loaders: dict[tuple[str, bool, bool], BatchLoader] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, Samples]:
        """All samples by the name of their part; all but ``"train"`` are to be evaluated."""
        return {TRAIN: self.training, VALIDATION: self.validation, **self.evaluation}

    @property
    def transform(self) -> Transform | None:
        """The augmentation of training images."""
        network = self.network
        return training_transform(network.task, network.preprocess.config, self.augment)

    @property
    def plain_batch_size(self) -> int:
        """Batch size without augmentation: 1 with ``resize="pad"``, as images then differ in size."""
        alone = self.network.preprocess.config.resize == "pad"
        return 1 if alone else self.config.batch_size

    def loader(self, part: str, augment: bool = False, whole: bool = True) -> BatchLoader:
        """Return the loader of a part, see ``parts``; made on first use.

        Args:
            part: Which samples.
            augment: Whether to augment.
            whole: Collate targets; otherwise batches contain a list of them.
        """
        key = (part, augment, whole)
        if key not in self._loaders:
            one_size = part != TRAIN and whole and self.network.one_size
            self._loaders[key] = self.loader_of(self.parts[part], augment, whole, one_size)
        return self._loaders[key]

    def loader_of(
        self, samples: Samples, augment: bool, whole: bool, one_size: bool = False
    ) -> BatchLoader:
        """Make a loader of any samples.

        Args:
            samples: The samples.
            augment: Whether to augment.
            whole: Collate targets; otherwise batches contain a list of them.
            one_size: Whether to split each batch into batches of images of one original size, which are
                decoded at that size.
        """
        workers = self.config.workers
        return BatchLoader(
            SampleDataset(
                samples,
                self.network.preprocess_on_cpu(),
                self.transform if augment else None,
                self.config.seed,
            ),
            self.network.task.collate if whole else list,
            default_workers(self.device) if workers is None else workers,
            pin_memory=self.device.type == "cuda",
            one_size=one_size,
            pixels=pixels_at_once(self.device),
        )

    def view(self, epoch: int, augment: bool) -> int:
        """Return the view of the images that an epoch uses: its own, or one of a fixed number."""
        if not augment:
            return 0
        return epoch % self.config.views if self.config.views else epoch
