"""The class activation map as an extra output of exported files."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from visiongraft.backbone import Features
from visiongraft.errors import OptionError
from visiongraft.network import InferenceGraph
from visiongraft.plugins.classification.head import ClassificationHead

CLOSE = 1e-3  # relative difference between the embedding and the mean of the map


def class_activation_maps(graph: InferenceGraph, features: Features, outputs: Any) -> Tensor:
    """Compute the class activation map of each class (Zhou et al., 2016).

    Args:
        graph: Its head must be linear.
        features: The embedding must be the mean of a map, see ``Backbone.unpooled``, as in ResNets and EfficientNets.
        outputs: Not used.

    Returns:
        float (N, C, h, w): what each position adds to the logit of each class; their mean and the bias of the
        head are the logit.

    Raises:
        OptionError: Head or backbone are of another kind.
    """
    head, backbone = graph.head, graph.backbone
    if not isinstance(head, ClassificationHead) or not _is_linear(head):
        raise OptionError("the extra output 'cam' needs a linear head; train with hidden=0")
    maps = backbone.unpooled(features)
    if maps.ndim != 4 or maps.shape[:2] != features.pooled.shape or not _is_mean(maps, features):
        raise OptionError(
            f"the extra output 'cam' needs an embedding that is the mean of a feature map, which that of "
            f"{backbone.info.name!r} is not; that of a ResNet or an EfficientNet is, and visiongraft.explain "
            "works for any"
        )
    return torch.einsum("kc,nchw->nkhw", head.output.weight, maps)


def _is_linear(head: ClassificationHead) -> bool:
    before = (head.projection, head.hidden)
    plain = all(isinstance(layer, nn.Identity) for layer in before)
    return plain and not head.normalize and head.cache is None


def _is_mean(maps: Tensor, features: Features) -> bool:
    """Check values, as far as there are any: not while a graph is traced."""
    if torch.compiler.is_compiling():
        return True
    difference = (maps.mean((2, 3)) - features.pooled).abs().max()
    return bool(difference <= CLOSE * features.pooled.abs().max() + 1e-6)
