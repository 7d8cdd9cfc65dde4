"""The risk on a target domain, estimated from labeled source images that resemble it (DEV)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

DECAY = 0.01  # of the weights of the domain classifier, which keeps the importance weights finite


def weighted_risk(losses: Tensor, own: Tensor, other: Tensor) -> float:
    """Estimate the mean loss on a target domain by deep embedded validation (You et al., 2019).

    The loss of each source image is weighted by ``w = p(target | f) / p(source | f) * N_s / N_t``, the
    density ratio of its embedding f by a logistic regression. With the control variate
    ``eta = -cov(w * loss, w) / var(w)`` the risk is ``mean(w * loss) + eta * mean(w) - eta``.

    The regression of each half of the images is fitted on the other halves, where the paper uses
    training images.

    Args:
        losses: (N_s,), of labeled source images that were not trained on.
        own: Their embeddings, (N_s, D).
        other: Embeddings of target images, (N_t, D).

    Returns:
        The risk, in the unit of the losses; lower is better.
    """
    losses, weights = losses.double(), importance_weights(own.double(), other.double())
    products = weights * losses
    spread = weights.var()
    deviations = (products - products.mean()) * (weights - weights.mean())
    covariance = deviations.sum() / (len(weights) - 1)
    eta = -covariance / spread if spread > 0 else torch.zeros(())
    return float(products.mean() + eta * weights.mean() - eta)


def importance_weights(own: Tensor, other: Tensor) -> Tensor:
    """Estimate the density ratio of target to source at source embeddings.

    Args:
        own: float64 (N_s, D), of the source; at least 4.
        other: float64 (N_t, D), of the target; at least 4.

    Returns:
        float64 (N_s,), positive.
    """
    both = torch.cat([own, other])
    mean, scale = both.mean(0), both.std(0).clamp_min(1e-12)
    own, other = (own - mean) / scale, (other - mean) / scale
    weights = own.new_empty(len(own))
    for half in (0, 1):
        rest_own, rest_other = own[1 - half :: 2], other[1 - half :: 2]
        weight, bias = _logistic_regression(rest_own, rest_other)
        ratio = (own[half::2] @ weight + bias).exp()
        weights[half::2] = ratio * len(rest_own) / len(rest_other)
    return weights


def _logistic_regression(own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights (D,) and bias of the logarithm of p(other) / p(own)."""
    inputs = torch.cat([own, other])
    labels = torch.cat([own.new_zeros(len(own)), own.new_ones(len(other))])
    weight = inputs.new_zeros(inputs.shape[1]).requires_grad_()
    bias = inputs.new_zeros(()).requires_grad_()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(inputs @ weight + bias, labels)
        loss = loss + DECAY / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return weight.detach(), bias.detach()
