"""The graph without preprocessing, for people who preprocess images themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from visiongraft.errors import OptionError
from visiongraft.inputs import IMAGES
from visiongraft.network import InferenceGraph
from visiongraft.preprocess import Preprocess
from visiongraft.task import Decoded

SIZES = "sizes"  # name of the second input


class FloatGraph(InferenceGraph):
    """Preprocessed images in, final predictions out.

    Maps that belong to images come at the size of the network's input.

    Args:
        graph: The whole graph; its own modules are used, not copies.
    """

    takes_prepared = True

    def __init__(self, graph: InferenceGraph) -> None:
        nn.Module.__init__(self)
        self.preprocess, self.task = graph.preprocess, graph.task
        self.backbone, self.head = graph.backbone, graph.head
        self.extra_outputs = graph.extra_outputs

    def forward(self, images: Tensor, sizes: Tensor) -> Decoded:  # type: ignore[override]
        """Predict.

        Args:
            images: float32 (N, C, height, width), normalized, of the network's size.
            sizes: int64 (N, 2), original height and width of each image in pixels.

        Returns:
            The task's decoded outputs, and the extra outputs.
        """
        return self.decode_prepared(images, images.shape[2:], sizes)

    def inputs(self, images: Tensor) -> dict[str, Tensor]:
        """Return the inputs by name, in order, for raw images, uint8 (N, H, W, C)."""
        return prepared(self.preprocess, images)

    def further_axes(self) -> tuple[Any, ...]:
        return (self.preprocess.inputs.axes(fixed_size=True),)


def float_graph(graph: InferenceGraph) -> FloatGraph:
    """Take the preprocessing off a graph of images.

    Raises:
        OptionError: The graph takes something else.
    """
    inputs = graph.preprocess.inputs
    if inputs != IMAGES:
        raise OptionError(
            f"input='float' is for images; task {graph.task.name!r} takes {inputs.name}, so leave it out"
        )
    return FloatGraph(graph)


def prepared(preprocess: Preprocess, images: Tensor) -> dict[str, Tensor]:
    """Preprocess raw images, uint8 (N, H, W, C), and return both inputs by name."""
    size = torch.tensor([images.shape[1], images.shape[2]])
    return {IMAGES.name: preprocess(images), SIZES: size.repeat(len(images), 1)}
