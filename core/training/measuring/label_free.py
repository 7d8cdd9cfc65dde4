"""Metrics of predictions that need no labels, for choosing a model for a domain without any."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TEMPERATURE = 2.5  # of class confusion, as in its paper


def joint_classes(logits: Tensor) -> Tensor:
    """Add up the joint probabilities of classes, where sure predictions count more (Jin et al., 2020).

    With ``P = softmax(logits)`` of all N images and positions, and their entropies H, it is
    ``P^T diag(1 + exp(-H)) P``. The weights have no gradient.

    Args:
        logits: float32 (N, C, ...).

    Returns:
        (C, C), symmetric; matrices of several batches can be added.
    """
    rows = logits.movedim(1, -1).flatten(0, -2)  # (N * positions, C)
    log_chances = rows.log_softmax(1)
    chances = log_chances.exp()
    weights = 1 + (chances * log_chances).sum(1).detach().exp()
    return (chances * weights[:, None]).T @ chances


def class_confusion(joint: Tensor) -> Tensor:
    """Compute how much classes are confused with each other.

    Args:
        joint: From ``joint_classes``, (C, C).

    Returns:
        The mean sum of the other classes in a row, whose sum is 1: from 0, if each prediction is
        sure, to below 1.
    """
    rows = joint / joint.sum(1, keepdim=True)
    return (rows.sum() - rows.trace()) / len(rows)


class LabelFree:
    """Measures predictions for images without labels, batch by batch."""

    def __init__(self) -> None:
        self.count = 0
        self.entropy = 0.0
        self.mean: Tensor = torch.zeros(())
        self.joint: Tensor = torch.zeros(())

    def update(self, logits: Tensor) -> None:
        """Add logits (N, C, ...) of classes that exclude each other."""
        logits = logits.double().cpu()
        chances = logits.softmax(1).movedim(1, -1).flatten(0, -2)
        self.count += len(chances)
        self.entropy += float(torch.special.entr(chances).sum())
        self.mean = self.mean + chances.sum(0)
        self.joint = self.joint + joint_classes(logits / TEMPERATURE)

    def compute(self) -> dict[str, float]:
        """Return the metrics; none if there were no logits.

        Returns:
            ``entropy``: mean entropy of the predictions, and ``diversity``: entropy of the mean
            prediction, both as fractions of the largest possible, ln C; ``class_confusion``, with
            the paper's temperature, over all images together.
        """
        if not self.count:
            return {}
        most = math.log(len(self.mean))
        spread = torch.special.entr(self.mean / self.count).sum()
        return {
            "entropy": self.entropy / self.count / most,
            "diversity": float(spread) / most,
            "class_confusion": float(class_confusion(self.joint)),
        }
