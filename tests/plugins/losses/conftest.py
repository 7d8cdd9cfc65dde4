"""A small network with class ids, and transfer losses at work in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from visiongraft.backbone import PooledHead
from visiongraft.data.batch import Batch, StepInfo
from visiongraft.lookup.backbones import load_backbone
from visiongraft.lookup.methods import find_transfer_loss
from visiongraft.network import Network
from visiongraft.plugins.classification.task import Classification
from visiongraft.schedules import Phase
from visiongraft.training.trainable import apply_phase
from visiongraft.training.transfer.applying import Transfer
from visiongraft.training.transfer_losses import TransferStep

CLASSES = ("ant", "bee", "cat")
SOURCE_CLASSES = 5


class Bench:
    """A network, a source head and one transfer loss."""

    def __init__(self, loss: str, **task: Any) -> None:
        torch.manual_seed(0)
        backbone = load_backbone("simple_cnn", weights=None, size=8)
        self.network = Network(backbone, Classification(class_names=CLASSES, **task))
        head = PooledHead(nn.Linear(backbone.info.embedding_dim, SOURCE_CLASSES))
        self.transfer = Transfer([find_transfer_loss(loss)], self.network, head)
        self.network.transfer = self.transfer
        apply_phase(self.network.eval(), Phase(1, "all"))
        (self.loss,) = self.transfer.named_losses.values()

    def move(self, amount: float = 0.05) -> None:
        """Change all weights of the backbone."""
        with torch.no_grad():
            for parameter in self.network.backbone.parameters():
                parameter.add_(torch.randn_like(parameter) * amount)

    def batch(self, ids: Iterable[int] = (0, 1, 2, 0), seed: int = 1, targets: Any = None) -> Batch:
        """Return random images."""
        labels = torch.tensor(list(ids))
        images = torch.randn(len(labels), 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        targets = labels if targets is None else targets
        return Batch(images, targets, torch.full((len(labels), 2), 8), torch.arange(len(labels)))

    def joined(self, batch: Batch, images: Tensor, progress: float = 0.5) -> Batch:
        """Return a batch with images of the stream ``unlabelled``, in the middle of a run."""
        count = len(images)
        stream = Batch(images, None, torch.full((count, 2), 8), torch.arange(count))
        step = StepInfo(progress=progress)
        return replace(batch, streams={"unlabelled": stream}, step=step)

    @torch.no_grad()
    def prepare(self, *batches: Batch) -> None:
        """Show the loss these batches as the training set."""
        self.loss.prepare([self.seen(batch) for batch in batches])

    @torch.no_grad()
    def seen(self, batch: Batch) -> TransferStep:
        """Return what the loss sees of a batch."""
        step = self.transfer.step(self.network, batch)
        step.seen = batch.images, self.network.backbone(batch.images)
        return step

    def parts(self, batch: Batch) -> dict[str, Tensor]:
        """Return the parts of the loss for a training batch."""
        prefix = f"{self.loss.name}."
        parts = self.network(batch)
        return {n.removeprefix(prefix): v for n, v in parts.items() if n.startswith(prefix)}


@pytest.fixture
def bench() -> Callable[..., Bench]:
    return Bench
