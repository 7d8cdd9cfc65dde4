"""Elastic weight consolidation: a generator keeps the weights that its images depend on most."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from visiongraft.backbone import Backbone
from visiongraft.errors import OptionError
from visiongraft.loss_parts import LossParts
from visiongraft.network import Network
from visiongraft.plugins.generation.head import GenerationHead
from visiongraft.plugins.losses.checks import check_count, check_strength
from visiongraft.training.transfer_losses import TransferLoss, TransferStep


class GeneratorEWC(TransferLoss):
    """Pull the generator's weights back to where they began, each by its importance (Li et al., 2020).

    Loss: ``strength / 2 * sum F (w - w0)^2`` over the weights of the generator, with F the diagonal of the
    Fisher information, scaled to a mean of 1. The paper takes it from the scores of a trained critic; here
    it is that of the generator's own values, each the probability of a Bernoulli distribution, so that it
    needs no critic.

    Args:
        backbone: The backbone that will train.
        source: The starting point; not used.
        strength: Weight of the loss.
        samples: Number of images that the information is estimated from.
    """

    name: ClassVar[str] = "generator_ewc"
    checked_with: ClassVar[str | None] = "generation"
    start: Tensor
    importance: Tensor

    def __init__(
        self, backbone: Backbone, source: Backbone, *, strength: float = 1.0, samples: int = 64
    ) -> None:
        super().__init__(backbone, source)
        check_strength(self.name, strength=strength)
        check_count(self.name, samples=samples)
        self.strength, self.samples = strength, samples
        self.register_buffer("start", None)
        self.register_buffer("importance", None)

    def set_up(self, network: Network) -> None:
        """Keep the weights that the generator begins with."""
        if not isinstance(network.head, GenerationHead):
            raise OptionError(
                f"transfer loss {self.name!r} is for generators, not for task {network.task.name!r}"
            )
        self.start = _flat(network.head.generator).detach().clone()
        self.importance = torch.zeros_like(self.start)

    def prepare(self, steps: Iterable[TransferStep]) -> None:
        """Estimate the importance of each weight from images that the generator makes."""
        head = next(iter(steps)).head
        assert isinstance(head, GenerationHead)
        latents = torch.randn(self.samples, head.latents, device=self.start.device)
        squares = [_gradient(head.generator, latent).square() for latent in latents]
        information = torch.stack(squares).mean(0)
        self.importance = information / information.mean().clamp(min=1e-30)

    def forward(self, step: TransferStep) -> LossParts:
        """Return the part ``generator``; none in the step of a critic."""
        if step.batch.step.optimizer == "critic":
            return {}
        assert isinstance(step.head, GenerationHead)
        moved = _flat(step.head.generator) - self.start
        return {"generator": self.strength / 2 * (self.importance * moved.square()).sum()}


def _flat(module: nn.Module) -> Tensor:
    return torch.cat([parameter.flatten() for parameter in module.parameters()])


def _gradient(generator: nn.Module, latent: Tensor) -> Tensor:
    """Return the gradient of the log-likelihood of one random image of a latent, (D,), flat."""
    with torch.enable_grad():
        weights = {n: p.detach().requires_grad_() for n, p in generator.named_parameters()}
        logits: Tensor = functional_call(generator, weights, (latent[None],))
        values = torch.bernoulli(logits.detach().sigmoid())
        loss = F.binary_cross_entropy_with_logits(logits, values, reduction="sum")
        gradients = torch.autograd.grad(loss, list(weights.values()))
    return torch.cat([gradient.flatten() for gradient in gradients])
