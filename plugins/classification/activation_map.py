"""The class activation map as an extra output of exported files."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from visiongraft.backbone import Features
from visiongraft.errors import OptionError
from visiongraft.network import InferenceGraph
from visiongraft.plugins.classification.head import ClassificationHead

CLOSE = 1e-3  # relative difference between the embedding and the mean of the last feature map


def class_activation_maps(graph: InferenceGraph, features: Features, outputs: Any) -> Tensor:
    """Compute the class activation map of each class (Zhou et al., 2016).

    Args:
        graph: Its head must be linear.
        features: The embedding must be the mean of the last feature map, as in ResNets.
        outputs: Not used.

    Returns:
        float (N, C, h, w): what each position adds to the logit of each class; their mean and the bias of the
        head are the logit.

    Raises:
        OptionError: Head or backbone are of another kind.
    """
    head, maps = graph.head, features.maps[-1]
    linear = getattr(head, "output", None)
    plain = isinstance(head, ClassificationHead) and not head.normalize
    if (
        not plain
        or not isinstance(linear, nn.Linear)
        or linear.in_features != features.pooled.shape[1]
    ):
        raise OptionError("the extra output 'cam' needs a linear head; train with hidden=0")
    if maps.ndim != 4 or maps.shape[1] != linear.in_features or not _is_mean(features):
        raise OptionError(
            f"the extra output 'cam' needs an embedding that is the mean of the last feature map, which that of "
            f"{graph.backbone.info.name!r} is not; a ResNet's is, and visiongraft.explain works for any"
        )
    return torch.einsum("kc,nchw->nkhw", linear.weight, maps)


def _is_linear(head: ClassificationHead) -> bool:
    before = (head.projection, head.hidden)
    plain = all(isinstance(layer, nn.Identity) for layer in before)
    return plain and not head.normalize and head.cache is None


def _is_mean(features: Features) -> bool:
    """Check values, as far as there are any: not while a graph is traced."""
    if torch.compiler.is_compiling():
        return True
    difference = (features.maps[-1].mean((2, 3)) - features.pooled).abs().max()
    return bool(difference <= CLOSE * features.pooled.abs().max() + 1e-6)
