"""The classifier of published weights: a linear layer on the embedding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


def linear_classifier(weights: Mapping[str, Tensor], modules: Iterable[str]) -> nn.Linear | None:
    """Make a linear layer of a published file's classifier.

    Args:
        weights: Tensors by the names in the file.
        modules: Names of modules that may be the classifier, without a trailing dot; the first that
            has a matrix, or a convolution of 1x1 pixels, is taken.

    Returns:
        The layer in float32, from embeddings (N, inputs) to logits (N, classes); ``None`` if the file
        contains no such layer.

    Examples:
        >>> linear_classifier({"fc.weight": torch.zeros(10, 4)}, ["head", "fc"])
        Linear(in_features=4, out_features=10, bias=False)
    """
    for module in modules:
        matrix = weights.get(f"{module}.weight")
        if matrix is None or matrix.ndim not in (2, 4) or matrix[0, 0].numel() != 1:
            continue
        bias = weights.get(f"{module}.bias")
        outputs, inputs = matrix.shape[:2]
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias is not None)
        with torch.no_grad():
            layer.weight.copy_(matrix.reshape(outputs, inputs))
            if bias is not None:
                layer.bias.copy_(bias)
        assert isinstance(layer, nn.Linear)
        return layer
    return None
