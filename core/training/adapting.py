"""What transfer losses change in the network that is evaluated and kept, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from visiongraft.training.freezing import frozen_tensors
from visiongraft.training.loaders import ImageLoaders
from visiongraft.training.transfer_losses import TransferLoss


@dataclass
class TargetImages:
    """The images of the streams that a run adapts to, in order and without augmentation.

    Attributes:
        images: The loaders of the run.
        samples: The samples of these streams, by name.
    """

    images: ImageLoaders
    samples: Mapping[str, Samples]
    _loaders: dict[str, BatchLoader] = field(default_factory=dict)

    def batches(self, name: str) -> Iterator[Batch]:
        """Load a stream's images on the device; no batch is smaller than the others by more than one.

        Args:
            name: Name of the stream.
        """
        samples, images = self.samples[name], self.images
        if name not in self._loaders:
            self._loaders[name] = images.loader_of(samples, augment=False, whole=False)
        alone = images.network.preprocess.config.resize == "pad"  # then images differ in size
        parts = len(samples) if alone else max(1, len(samples) // images.config.batch_size)
        plan = [range(i, len(samples), parts) for i in range(parts)]
        for batch in self._loaders[name].batches([[(i, 0) for i in part] for part in plan]):
            yield batch.to(images.device)


@dataclass(frozen=True)
class _Again:
    """The batches of a stream; each iteration loads them anew."""

    targets: TargetImages
    name: str

    def __iter__(self) -> Iterator[Batch]:
        return self.targets.batches(self.name)


@contextmanager
def adapted(network: Network, targets: TargetImages, *seed: int | str) -> Iterator[None]:
    """Let the transfer losses of a run adapt its network for the length of a block.

    Args:
        network: The network; it is afterwards as it was.
        targets: The images to adapt to.
        *seed: Of random numbers that a loss draws.

    Raises:
        ReceiptError: A loss changed a parameter, or a frozen buffer without being asked to.
    """
    transfer = network.transfer
    losses = transfer.adapting_losses if transfer is not None else {}
    if not losses:
        yield
        return
    state = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    kept = {name: tensor.clone() for name, tensor in state.items()}
    network.eval()
    try:
        for name, loss in losses.items():
            with seeded(*seed, "adapt", name), torch.no_grad():
                loss.adapt(network, {each: _Again(targets, each) for each in loss.adapts_to})
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
