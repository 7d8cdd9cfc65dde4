"""Adversarial training (Goodfellow et al., 2014): the steps of critic and generator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visiongraft.network import Network
from visiongraft.plugins.adversarial.augmentation import augment
from visiongraft.plugins.adversarial.losses import AdversarialLoss, gradient_penalty
from visiongraft.plugins.generation.head import AdversarialHead


def critic_parts(
    network: Network,
    images: Tensor,
    loss: AdversarialLoss,
    penalty: float,
    augmentations: Sequence[str],
) -> dict[str, Tensor]:
    """Compute the critic's loss parts of a batch.

    Args:
        network: With an ``AdversarialHead``; backbone and head score images.
        images: Real ones, float (N, C, height, width), normalized.
        loss: What critic and generator minimize.
        penalty: Weight of the gradient penalty R1.
        augmentations: Kinds of differentiable augmentation.

    Returns:
        ``real``, ``fake`` and, if it has a weight, ``penalty``.
    """
    with torch.no_grad():
        drawn = draw(network, len(images))
    seen = augment(images, augmentations).detach().requires_grad_(penalty > 0)
    scores = _scores(network, seen)
    parts = {
        "real": loss.real(scores),
        "fake": loss.fake(_scores(network, augment(drawn, augmentations))),
    }
    if penalty > 0 and torch.is_grad_enabled():
        parts["penalty"] = penalty * gradient_penalty(scores, seen)
    return parts


def generator_parts(
    network: Network, count: int, loss: AdversarialLoss, augmentations: Sequence[str]
) -> dict[str, Tensor]:
    """Compute the generator's loss part of a batch, ``scores``; see ``critic_parts``.

    Args:
        network: With an ``AdversarialHead``.
        count: Number of images to generate.
        loss: What critic and generator minimize.
        augmentations: Kinds of differentiable augmentation.
    """
    drawn = augment(draw(network, count), augmentations)
    return {"scores": loss.generator(_scores(network, drawn))}


def draw(network: Network, count: int) -> Tensor:
    """Generate images of random latents, normalized as the backbone takes them.

    Args:
        network: With an ``AdversarialHead``.
        count: Number of images.

    Returns:
        float (count, C, height, width), differentiable.
    """
    head = _head(network)
    latents = torch.randn(count, head.latents, device=network.preprocess.mean.device)
    return network.preprocess.normalize(head.generate(latents).sigmoid() * 255)


def _scores(network: Network, images: Tensor) -> Tensor:
    scores: Tensor = network.head(network.backbone(images))
    return scores.float()


def _head(network: Network) -> AdversarialHead:
    assert isinstance(network.head, AdversarialHead)
    return network.head
