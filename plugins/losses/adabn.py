"""AdaBN: batch norm with the statistics of the target domain."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from visiongraft.backbone import Backbone
from visiongraft.data.batch import Batch
from visiongraft.errors import OptionError
from visiongraft.network import Network
from visiongraft.options import check_flag
from visiongraft.plugins.losses.domains import STREAM
from visiongraft.training.transfer_losses import TransferLoss, TransferStep


class AdaBN(TransferLoss):
    """AdaBN: batch norm with the running statistics of the target domain (Li et al., 2016).

    After each epoch, one pass over the images of the stream ``unlabelled`` replaces mean and variance
    of each batch norm in the network that is evaluated and kept. In this pass batch norms normalize
    by the batch, and everything else is in evaluation mode. Mean and variance (unbiased, as running
    statistics are) are those of all values together, whatever the sizes of the batches. Weights are
    not changed, training goes on with the statistics that it had, and no loss is added.

    Batch norms that a phase keeps frozen are left alone in its epochs, unless ``frozen`` is set; a run
    that keeps all of them frozen throughout is refused. Receipts are about training, so that they hold in both cases; with ``frozen``, the statistics in the saved
    model are not those of the receipts.

    Args:
        backbone: The backbone that will train.
        source: Not used.
        frozen: Whether to replace the statistics of frozen batch norms, too.
    """

    name: ClassVar[str] = "adabn"
    adapts_to: ClassVar[tuple[str, ...]] = (STREAM,)

    def __init__(self, backbone: Backbone, source: Backbone, *, frozen: bool = False) -> None:
        super().__init__(backbone, source)
        check_flag("frozen", frozen)
        self.adapts_frozen = frozen

    def set_up(self, network: Network) -> None:
        """Refuse a network without batch norm."""
        if not batch_norms(network.backbone, network.head):
            raise OptionError(
                f"transfer loss 'adabn' replaces the statistics of batch norms, but neither backbone "
                f"{network.backbone.info.name!r} nor the head has any; choose another loss"
            )

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        """Return no parts."""
        return {}

    def idle(self, network: Network) -> str:
        """Tell that a phase keeps all batch norms frozen."""
        if self._adapted(network):
            return ""
        return (
            "has nothing to adapt: the schedule keeps all batch norms frozen; use adabn(frozen=True), or a "
            "schedule such as full(batch_norm='train')"
        )

    def adapt(self, network: Network, targets: Mapping[str, Iterable[Batch]]) -> None:
        """Replace the running statistics by those of the stream's images."""
        norms = self._adapted(network)
        images = (batch.images for batch in targets[STREAM]) if norms else ()
        for norm, moments in zip(norms, collect_moments(network, norms, images), strict=True):
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.copy_(moments.mean)
            norm.running_var.copy_(moments.variance)

    def _adapted(self, network: Network) -> list[_BatchNorm]:
        """List the batch norms whose statistics are replaced in the present phase."""
        held: Collection[nn.Module] = () if self.adapts_frozen else set(network.held_in_eval)
        return [n for n in batch_norms(network.backbone, network.head) if n not in held]


class Moments:
    """Mean and variance of each channel over batches, by the formula of Chan et al. (1979).

    Attributes:
        count: Number of values of each channel.
        mean: float64 (C,).
        squares: Sum of squared deviations from the mean, float64 (C,).
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor = torch.zeros(())
        self.squares: Tensor = torch.zeros(())

    def add(self, values: Tensor) -> None:
        """Add values (N, C, ...).

        Raises:
            OptionError: There is a single value of each channel, by which nothing can be normalized.
        """
        rows = values.detach().double().movedim(1, 0).flatten(1)  # (C, values)
        count, mean = rows.shape[1], rows.mean(1)
        if count < 2:
            raise OptionError(
                "transfer loss 'adabn' needs batches of two or more images of the stream 'unlabelled'"
            )
        total, moved = self.count + count, mean - self.mean.to(mean)
        squares = (rows - mean[:, None]).square().sum(1)
        self.squares = self.squares.to(mean) + squares + moved.square() * self.count * count / total
        self.mean = self.mean.to(mean) + moved * count / total
        self.count = total

    @property
    def variance(self) -> Tensor:
        """The unbiased variance, float64 (C,)."""
        return self.squares / (self.count - 1)


def batch_norms(*modules: nn.Module) -> list[_BatchNorm]:
    """List the batch norms with running statistics."""
    return [
        norm
        for module in modules
        for norm in module.modules()
        if isinstance(norm, _BatchNorm) and norm.running_mean is not None
    ]


def collect_moments(
    network: Network, norms: Iterable[_BatchNorm], images: Iterable[Tensor]
) -> list[Moments]:
    """Measure the inputs of batch norms while these normalize by the batch.

    Args:
        network: The network, in evaluation mode; its running statistics are changed.
        norms: Batch norms of backbone and head.
        images: Batches (N, C, height, width), preprocessed.

    Returns:
        Of each batch norm what it was given.
    """
    found: list[Moments] = []
    with ExitStack() as stack:
        for norm in norms:
            found.append(moments := Moments())

            def keep(module: nn.Module, inputs: Any, moments: Moments = moments) -> None:
                moments.add(inputs[0])

            stack.callback(norm.register_forward_pre_hook(keep).remove)
            stack.callback(norm.train, norm.training)
            norm.train()
        for each in images:
            network.head(network.backbone(each))
    return found
