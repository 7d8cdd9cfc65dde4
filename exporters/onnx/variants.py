"""Other forms of the graph that PyTorch evaluates: without preprocessing, and in less precision."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from visiongraft.exporters.metadata import IMAGES
from visiongraft.network import InferenceGraph, restored
from visiongraft.task import Decoded

SIZES = "sizes"
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class FloatGraph(InferenceGraph):
    """The same without preprocessing: what ``Preprocess`` gives in, final predictions out.

    Maps that belong to images come at the size of the network's input.

    Args:
        graph: The whole; its own modules are used, not copies.
    """

    def __init__(self, graph: InferenceGraph) -> None:
        nn.Module.__init__(self)
        self.preprocess, self.task = graph.preprocess, graph.task
        self.backbone, self.head = graph.backbone, graph.head

    def forward(self, images: Tensor, sizes: Tensor) -> Decoded:  # type: ignore[override]
        """Predict.

        Args:
            images: float32 (N, C, height, width), normalized, of the network's size.
            sizes: int64 (N, 2), original height and width of each image in pixels.

        Returns:
            The task's decoded outputs.
        """
        outputs = self.task.inference_step(self, images)
        height, width = images.shape[2], images.shape[3]
        outputs = restored(outputs, self.task, self.preprocess, height, width)
        return self.task.decode(outputs, sizes)


def feed(graph: InferenceGraph, images: Tensor) -> dict[str, Tensor]:
    """Make the inputs of a graph, or of a file with the same inputs, from raw images.

    Args:
        graph: Of any form.
        images: uint8 (N, H, W, C).

    Returns:
        Tensors by the name of the input, in order.
    """
    if not isinstance(graph, FloatGraph):
        return {IMAGES: images}
    size = torch.tensor([images.shape[1], images.shape[2]])
    return {IMAGES: graph.preprocess(images), SIZES: size.repeat(len(images), 1)}


class _Backbone(nn.Module):
    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner, self.dtype = inner.to(dtype), dtype

    def forward(self, images: Tensor) -> Any:
        return self.inner(images.to(self.dtype))


class _Head(nn.Module):
    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner, self.dtype = inner.to(dtype), dtype

    def forward(self, features: Any) -> Any:
        return _cast(self.inner(_cast(features, self.dtype)), torch.float32)


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
    graph.head = _Head(graph.head, dtype if head else torch.float32)
    return graph


def _cast(values: Any, dtype: torch.dtype) -> Any:
    """Cast the real-valued tensors in what a module returned."""
    return pytree.tree_map_only(
        Tensor, lambda t: t.to(dtype) if t.is_floating_point() else t, values
    )
