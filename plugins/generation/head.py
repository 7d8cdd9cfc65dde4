"""Heads: a generator, and the layer that training puts on the features of real and generated images."""

from __future__ import annotations

from torch import Tensor, nn

from visiongraft.backbone import Features
from visiongraft.plugins.generation.generators import LatentMapping


class GenerationHead(nn.Module):
    """Makes images of latents.

    Args:
        generator: From latents (N, D) to logits of values (N, C, height, width).
        latents: Values of a latent.
    """

    def __init__(self, generator: nn.Module, latents: int) -> None:
        super().__init__()
        self.latents = latents
        self.mapping = LatentMapping(latents)
        self.generator = generator

    def generate(self, latents: Tensor) -> Tensor:
        """Make images.

        Args:
            latents: float (N, D), from the standard normal distribution.

        Returns:
            float (N, C, height, width), logits of values in 0..1.
        """
        logits: Tensor = self.generator(self.mapping(latents))
        return logits


class AutoencoderHead(GenerationHead):
    """A generator, and the posterior distribution of the latent of an image.

    Args:
        generator: See ``GenerationHead``.
        latents: Values of a latent.
        dim: Length of the backbone's embedding.
    """

    def __init__(self, generator: nn.Module, latents: int, dim: int) -> None:
        super().__init__(generator, latents)
        self.posterior = nn.ModuleDict(
            {"mean": nn.Linear(dim, latents), "log_variance": nn.Linear(dim, latents)}
        )

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Compute ``mean`` and ``log_variance`` of the latent of each image, float (N, D)."""
        return {name: layer(features.pooled) for name, layer in self.posterior.items()}


class AdversarialHead(GenerationHead):
    """A generator, and the last layer of its critic, whose others are the backbone.

    Args:
        generator: See ``GenerationHead``.
        latents: Values of a latent.
        dim: Length of the backbone's embedding.
    """

    def __init__(self, generator: nn.Module, latents: int, dim: int) -> None:
        super().__init__(generator, latents)
        self.critic = nn.Linear(dim, 1)

    def forward(self, features: Features) -> Tensor:
        """Score images, float (N,): higher for those that look real."""
        scores: Tensor = self.critic(features.pooled)
        return scores[:, 0]
