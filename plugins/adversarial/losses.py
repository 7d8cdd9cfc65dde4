"""Losses of adversarial training, of a critic that scores images and a generator that makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class AdversarialLoss(NamedTuple):
    """What critic and generator minimize; scores are floats of any shape, higher for real images.

    Attributes:
        real: Of the critic, from its scores of real images.
        fake: Of the critic, from its scores of generated images.
        generator: Of the generator, from the critic's scores of generated images.
    """

    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


# Goodfellow et al. (2014); Lim and Ye (2017), "Geometric GAN"; Mao et al. (2017), "Least squares GAN".
ADVERSARIAL_LOSSES = {
    "non_saturating": AdversarialLoss(
        real=lambda scores: F.softplus(-scores).mean(),
        fake=lambda scores: F.softplus(scores).mean(),
        generator=lambda scores: F.softplus(-scores).mean(),
    ),
    "hinge": AdversarialLoss(
        real=lambda scores: F.relu(1 - scores).mean(),
        fake=lambda scores: F.relu(1 + scores).mean(),
        generator=lambda scores: -scores.mean(),
    ),
    "least_squares": AdversarialLoss(
        real=lambda scores: 0.5 * (scores - 1).square().mean(),
        fake=lambda scores: 0.5 * scores.square().mean(),
        generator=lambda scores: 0.5 * (scores - 1).square().mean(),
    ),
}


def gradient_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """Compute R1, half the squared gradient of the critic at real images (Mescheder et al., 2018).

    Args:
        scores: float (N, ...), the critic's scores of the images.
        images: float (N, ...), which require a gradient.

    Returns:
        The mean over the images, differentiable.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return 0.5 * gradient.float().square().flatten(1).sum(1).mean()
