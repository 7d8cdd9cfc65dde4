"""The graph whose classes are inputs, so that they can be exchanged after export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from visiongraft.errors import OptionError
from visiongraft.network import InferenceGraph
from visiongraft.task import Decoded


class OpenGraph(InferenceGraph):
    """Raw images and tensors of classes in, final predictions out.

    Args:
        graph: The whole graph; its own modules are used, not copies.
        names: ``Task.open_inputs`` of its task.
        values: Values by name of the input; those of the head if ``None``.

    Attributes:
        values: The values that ``inputs`` returns beside a raw batch.
    """

    def __init__(
        self,
        graph: InferenceGraph,
        names: Mapping[str, str],
        values: Mapping[str, Tensor] | None = None,
    ) -> None:
        nn.Module.__init__(self)
        self.preprocess, self.task = graph.preprocess, graph.task
        self.backbone, self.extra_outputs = graph.backbone, graph.extra_outputs
        head: nn.Module = graph.head.inner if isinstance(graph.head, _OpenHead) else graph.head
        own = head.state_dict()
        self.values = {name: own[tensor] for name, tensor in names.items()}
        self.values |= dict(values or {})
        self.head = _OpenHead(head, tuple(names.values()), tuple(self.values.values()))

    def forward(self, images: Tensor, *classes: Tensor) -> Decoded:
        """Predict.

        Args:
            images: As for the whole graph.
            classes: The tensors of classes, in the order of ``values``.

        Returns:
            The task's decoded outputs, and the extra outputs.
        """
        head = self.head
        assert isinstance(head, _OpenHead)
        kept, head.given = head.given, classes
        try:
            return super().forward(images)
        finally:
            head.given = kept

    def inputs(self, raw: Tensor) -> dict[str, Any]:
        """Return the inputs by name, in order, for a raw batch."""
        return {**super().inputs(raw), **self.values}

    def further_axes(self) -> tuple[Any, ...]:
        return (tuple({0: "classes"} for _ in self.values),)


class _OpenHead(nn.Module):
    """A head, some of whose tensors are given in each call."""

    def __init__(
        self, inner: nn.Module, tensors: tuple[str, ...], given: tuple[Tensor, ...]
    ) -> None:
        super().__init__()
        self.inner, self.tensors, self.given = inner, tensors, given

    def forward(self, features: Any) -> Any:
        replaced = dict(zip(self.tensors, self.given, strict=True))
        return functional_call(self.inner, replaced, (features,))


def open_graph(graph: InferenceGraph) -> OpenGraph:
    """Make the classes of a graph inputs.

    Raises:
        OptionError: They cannot be.
    """
    names = graph.task.open_inputs()
    if not names:
        raise OptionError(
            "open_classes=True needs a classifier of texts, as zero_shot makes them, without images in its head"
        )
    return OpenGraph(graph, names)


def with_other_classes(graph: OpenGraph, count: int) -> OpenGraph:
    """Return the graph with drawn values of as many classes, to try it on.

    Args:
        graph: The graph.
        count: Number of classes.
    """
    generator = torch.Generator().manual_seed(count)
    drawn = {}
    for name, value in graph.values.items():
        scale = value.float().std().nan_to_num() + value.float().abs().mean()
        drawn[name] = scale * torch.randn((count, *value.shape[1:]), generator=generator)
    return OpenGraph(graph, graph.task.open_inputs(), drawn).eval()
