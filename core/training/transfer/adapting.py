"""What transfer losses change in the network that is evaluated and kept, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from visiongraft.data.batch import Batch
from visiongraft.data.loader import BatchLoader
from visiongraft.data.samples import Samples
from visiongraft.errors import ReceiptError
from visiongraft.network import Network
from visiongraft.seeds import seeded
from visiongraft.training.batches.loaders import ImageLoaders
from visiongraft.training.freezing import frozen_tensors
from visiongraft.training.run import Run
from visiongraft.training.transfer_losses import TransferLoss


@dataclass
class TargetImages:
    """Images of streams and of the validation set, in order and without augmentation.

    Attributes:
        images: The loaders of the run.
    """

    images: ImageLoaders
    _loaders: dict[tuple[str, bool], BatchLoader] = field(default_factory=dict)

    def batches(self, name: str, samples: Samples) -> Iterator[Batch]:
        """Load all images without targets; no batch is smaller than another by more than one.

        Args:
            name: Of the samples.
            samples: The samples.
        """
        return self._load((name, False), samples, range(len(samples)), False)

    def some(self, name: str, samples: Samples, most: int, alone: bool = False) -> Iterator[Batch]:
        """Load images that are spread over all samples.

        Args:
            name: Of the samples.
            samples: The samples.
            most: How many at most.
            alone: Load each in a batch of its own, with its target.
        """
        count = min(most, len(samples))
        chosen = [i * len(samples) // count for i in range(count)]
        return self._load((name, alone), samples, chosen, alone)

    def _load(
        self, key: tuple[str, bool], samples: Samples, positions: Sequence[int], alone: bool
    ) -> Iterator[Batch]:
        images, size = self.images, 1 if alone else self.images.plain_batch_size
        if key not in self._loaders:
            self._loaders[key] = images.loader_of(samples, augment=False, whole=key[1])
        parts = max(1, len(positions) // size)
        plan = [positions[i::parts] for i in range(parts)]
        for batch in self._loaders[key].batches([[(i, 0) for i in part] for part in plan]):
            yield batch.to(images.device)


@dataclass(frozen=True)
class _Again:
    """The batches of a stream; each iteration loads them anew."""

    targets: TargetImages
    name: str
    samples: Samples

    def __iter__(self) -> Iterator[Batch]:
        return self.targets.batches(self.name, self.samples)


@contextmanager
def adapted(run: Run, targets: TargetImages) -> Iterator[None]:
    """Let the transfer losses of a run adapt its network for the length of a block.

    Args:
        run: The run; its network is afterwards as it was.
        targets: The images to adapt to.

    Raises:
        ReceiptError: A loss changed a parameter, or a frozen buffer without being asked to.
    """
    network, transfer = run.network, run.network.transfer
    losses = transfer.adapting_losses if transfer is not None else {}
    if not losses:
        yield
        return
    state = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    kept = {name: tensor.clone() for name, tensor in state.items()}
    network.eval()
    try:
        for name, loss in losses.items():
            streams = {each: _Again(targets, each, run.streams[each]) for each in loss.adapts_to}
            with seeded(run.config.seed, "adapt", run.state.epoch, name), torch.no_grad():
                loss.adapt(network, streams)
            _check_unchanged(network, kept, state, name, loss)
        yield
    finally:
        for name, tensor in state.items():
            tensor.copy_(kept[name])


def _check_unchanged(
    network: Network,
    kept: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    name: str,
    loss: TransferLoss,
) -> None:
    """Prove that a loss changed buffers only, and no frozen ones without being asked to."""
    fixed = {name for name, _ in network.named_parameters()}
    if not loss.adapts_frozen:
        fixed |= frozen_tensors(network).keys()
    for tensor in sorted(fixed & kept.keys()):
        if not torch.equal(kept[tensor], state[tensor]):
            raise ReceiptError(
                f"transfer loss {name!r} changed {tensor!r} while it adapted the network; it may change "
                "buffers only, and frozen ones only if it sets adapts_frozen"
            )
