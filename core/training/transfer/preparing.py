"""One pass over the training set before the first step, for the transfer losses that ask for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from visiongraft.data.loader import ordered_batches
from visiongraft.errors import ReceiptError
from visiongraft.seeds import seeded
from visiongraft.training.batches.loaders import ImageLoaders
from visiongraft.training.freezing import digest
from visiongraft.training.transfer.applying import Transfer
from visiongraft.training.transfer_losses import TransferLoss, TransferStep

log = logging.getLogger("visiongraft")


def prepare_losses(images: ImageLoaders) -> None:
    """Let the transfer losses of a run see the training set, as ``TransferLoss.prepare`` describes.

    Args:
        images: The samples of the run, and its network.

    Raises:
        ReceiptError: A loss changed the network.
    """
    network = images.network
    if network.transfer is None:
        return
    before: dict[str, str] = {}
    for name, loss in network.transfer.named_losses.items():
        if type(loss).prepare is TransferLoss.prepare:
            continue
        before = before or _digests(images)
        log.info(
            "transfer loss %r reads %d training images before the first step",
            name,
            len(images.training),
        )
        network.eval()
        with seeded(images.config.seed, "prepare", name), torch.no_grad():
            loss.prepare(_TrainingSet(images, network.transfer, loss))
        changed = [n for n, content in _digests(images).items() if content != before[n]]
        if changed:
            raise ReceiptError(
                f"transfer loss {name!r} changed {changed[0]!r} while it was prepared; it may "
                "change nothing but itself"
            )
        network.transfer.check("while its losses were prepared")


@dataclass(frozen=True)
class _TrainingSet:
    """The training set in order and without augmentation; each iteration loads it again."""

    images: ImageLoaders
    transfer: Transfer
    loss: TransferLoss

    def __iter__(self) -> Iterator[TransferStep]:
        images, network = self.images, self.images.network
        plan = ordered_batches(len(images.training), images.plain_batch_size)
        loader = images.loader("train")
        for batch in loader.batches([[(i, 0) for i in part] for part in plan]):
            step = self.transfer.step(network, batch.to(images.device))
            if self.loss.reads_features or self.loss.reads_outputs:
                features = network.backbone(step.batch.images)
                step.seen = step.batch.images, features
                if self.loss.reads_outputs:
                    step.returned = network.head(features)
            yield step


def _digests(images: ImageLoaders) -> dict[str, str]:
    state = images.network.state_dict()
    return {name: digest(t) for name, t in state.items() if not name.startswith("transfer.")}
