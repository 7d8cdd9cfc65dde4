"""Variational autoencoders (Kingma and Welling, 2014): their training step and what they are measured by."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from visiongraft.data.images import image_array
from visiongraft.network import Network
from visiongraft.plugins.generation.head import AutoencoderHead


def autoencoder_parts(network: Network, images: Tensor, beta: float) -> dict[str, Tensor]:
    """Compute the loss parts of a batch.

    Args:
        network: With an ``AutoencoderHead``.
        images: float (N, C, height, width), normalized.
        beta: Weight of the divergence (Higgins et al., 2017, "beta-VAE").

    Returns:
        ``reconstruction`` and ``kl``, in nats per value of an image, so that neither depends on its
        size.
    """
    noise = torch.randn(len(images), _head(network).latents, device=images.device)
    likelihood, divergence, _ = _bound(network, images, noise)
    values = images[0].numel()
    return {
        "reconstruction": -likelihood.mean() / values,
        "kl": beta * divergence.mean() / values,
    }


def autoencoder_measurements(
    network: Network, targets: Sequence[Tensor], latents: Tensor
) -> dict[str, Tensor]:
    """Measure how well an autoencoder knows images.

    Args:
        network: With an ``AutoencoderHead``.
        targets: The images, uint8 (H, W, 3) of any sizes.
        latents: float (N, D), the noise of the evaluation, so that it is the same each time.

    Returns:
        ``elbo``, the evidence lower bound in nats per image, and ``reconstruction_error``, the mean
        squared error of values in 0..1; float (N,).
    """
    preprocess, channels = network.preprocess, len(network.preprocess.config.mean)
    arrays = [image_array(t.cpu().numpy(), "image", channels) for t in targets]
    device = latents.device
    images = torch.cat([preprocess.images(torch.from_numpy(a)[None].to(device)) for a in arrays])
    likelihood, divergence, logits = _bound(network, images, latents)
    squares = (logits.sigmoid() - unit_values(network, images)).square()
    return {
        "elbo": likelihood - divergence,
        "reconstruction_error": squares.flatten(1).mean(1),
    }


def unit_values(network: Network, images: Tensor) -> Tensor:
    """Return values in 0..1 of normalized images, float (N, C, height, width)."""
    preprocess = network.preprocess
    return ((images * preprocess.std + preprocess.mean) / 255).clamp(0, 1)


def _bound(network: Network, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute log-likelihood and divergence of each image in nats, (N,), and its reconstruction.

    Values are the probabilities of a Bernoulli distribution, as in the paper.
    """
    head = _head(network)
    posterior = head(network.backbone(images))
    mean, log_variance = posterior["mean"].float(), posterior["log_variance"].float()
    logits = head.generate(mean + (0.5 * log_variance).exp() * noise).float()
    values = unit_values(network, images)
    losses = F.binary_cross_entropy_with_logits(logits, values, reduction="none")
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    return -losses.flatten(1).sum(1), divergence, logits


def _head(network: Network) -> AutoencoderHead:
    assert isinstance(network.head, AutoencoderHead)
    return network.head
