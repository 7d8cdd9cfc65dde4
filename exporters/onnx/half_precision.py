"""The graph that PyTorch evaluates, with a network in lower precision."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from visiongraft.network import InferenceGraph

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class _Backbone(nn.Module):
    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner, self.dtype = inner.to(dtype), dtype

    def forward(self, images: Tensor) -> Any:
        return self.inner(images.to(self.dtype))


def lowered(graph: InferenceGraph, dtype: torch.dtype, head: bool = True) -> InferenceGraph:
    """Copy a graph whose network computes in less precision; all else stays float32.

    Args:
        graph: Of any form; not changed.
        dtype: What the backbone computes in.
        head: Whether the head does so too.

    Returns:
        A graph with the same inputs and outputs.
    """
    graph = copy.deepcopy(graph)
    graph.backbone = _Backbone(graph.backbone, dtype)  # type: ignore[assignment]
    _lower_head(graph.head, dtype if head else torch.float32)
    return graph


def _lower_head(head: nn.Module, dtype: torch.dtype) -> None:
    """Let a head compute in another type; its class and parts stay, for what looks into it."""
    head.to(dtype)
    head.register_forward_pre_hook(lambda _, given: _cast(given, dtype))
    head.register_forward_hook(lambda _, given, found: _cast(found, torch.float32))


def _cast(values: Any, dtype: torch.dtype) -> Any:
    """Cast the real-valued tensors in what a module returned."""
    return pytree.tree_map_only(
        Tensor, lambda t: t.to(dtype) if t.is_floating_point() else t, values
    )
