"""Heads: a generator, and the layer that training puts on the features of real and generated images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from visiongraft.backbone import Features
from visiongraft.plugins.generation.generators import LatentMapping

WIDTH = 64  # channels of the critic of one feature map
SLOPE = 0.2  # of leaky ReLUs


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
    """A generator, and the last layers of its critic, whose others are the backbone.

    Args:
        generator: See ``GenerationHead``.
        latents: Values of a latent.
        critic: From ``Features`` to scores.
    """

    def __init__(self, generator: nn.Module, latents: int, critic: nn.Module) -> None:
        super().__init__(generator, latents)
        self.critic = critic

    def forward(self, features: Features) -> Tensor:
        """Score images, float (N, S): higher for those that look real."""
        scores: Tensor = self.critic(features)
        return scores


class EmbeddingCritic(nn.Linear):
    """Gives an image one score, from its embedding.

    Args:
        dim: Length of the embedding.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 1)

    def forward(self, features: Features) -> Tensor:  # type: ignore[override]
        """Score images, float (N, 1)."""
        return super().forward(features.pooled)


class MapsCritic(nn.Module):
    """Gives an image one score for each feature map, so that details count as much as the whole.

    On a frozen backbone it is the critic of Sauer et al. (2021), "Projected GANs converge faster", without
    their random mixing of maps.

    Args:
        channels: Channels of each map.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.of_maps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, WIDTH, 1), nn.LeakyReLU(SLOPE), nn.Conv2d(WIDTH, 1, 1))
            for c in channels
        )

    def forward(self, features: Features) -> Tensor:
        """Score images, float (N, number of maps): the mean over the positions of each map."""
        pairs = zip(self.of_maps, features.maps, strict=True)
        return torch.cat([critic(maps).mean((2, 3)) for critic, maps in pairs], dim=1)
