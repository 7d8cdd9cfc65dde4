"""Extra outputs of an exported file, such as the embedding, beside the task's own results.

A user requests them by name: ``model.export("flowers.onnx", extra_outputs=["embedding"])``. They are
computed from the pass that the predictions come from, and are proved like these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from visiongraft.backbone import Features
from visiongraft.errors import OptionError, PluginError, near_matches

if TYPE_CHECKING:
    from visiongraft.network import InferenceGraph
    from visiongraft.task import Decoded, Task

ExtraOutput = Callable[["InferenceGraph", Features, Any], Tensor]


def embedding(graph: InferenceGraph, features: Features, outputs: Any) -> Tensor:
    """Return the pooled embedding of the backbone, (N, embedding_dim)."""
    return features.pooled


def feature_map(graph: InferenceGraph, features: Features, outputs: Any) -> Tensor:
    """Return the coarsest feature map of the backbone, (N, channels, h, w)."""
    return features.maps[-1]


COMMON: Mapping[str, ExtraOutput] = {"embedding": embedding, "feature_map": feature_map}


def find_extra_outputs(task: Task, names: Sequence[str]) -> dict[str, ExtraOutput]:
    """Look up extra outputs.

    Args:
        task: Provides those of ``Task.extra_outputs``, beside those that every task has.
        names: What the user requested.

    Returns:
        The functions by name, in the order of the request.

    Raises:
        OptionError: A name is unknown, or requested twice.
    """
    known = {**COMMON, **task.extra_outputs()}
    for name in names:
        if name not in known:
            raise OptionError(
                f"task {task.name!r} has no extra output {name!r}{near_matches(name, known)}"
            )
    if len(set(names)) < len(names):
        raise OptionError(f"extra_outputs={list(names)!r} names an output twice")
    return {name: known[name] for name in names}


@contextmanager
def first_features(backbone: nn.Module) -> Iterator[list[Features]]:
    """Yield a list that holds the features of the first pass through a backbone, once there was one.

    A task may take several passes, such as one on the mirrored images; the first one counts.
    """
    found: list[Features] = []

    def keep(module: nn.Module, images: Any, features: Features) -> None:
        if not found:
            found.append(features)

    handle = backbone.register_forward_hook(keep)
    try:
        yield found
    finally:
        handle.remove()


def add_extra_outputs(
    graph: InferenceGraph, decoded: Decoded, features: Sequence[Features], outputs: Any
) -> Decoded:
    """Add a graph's extra outputs to the task's results.

    Args:
        graph: Its ``extra_outputs`` are computed.
        decoded: The task's results.
        features: Those of the first pass, if there was one.
        outputs: The outputs of the head, as ``Task.decode`` receives them.

    Returns:
        The results, and then the extra outputs; real values as float32.

    Raises:
        OptionError: A result of the task already has the name.
        PluginError: An extra output is not a tensor with one entry per image.
    """
    task = graph.task
    if not features:
        raise PluginError(
            f"task {task.name!r} has no features for extra outputs: it runs no backbone"
        )
    results = dict(decoded)
    for name, function in graph.extra_outputs.items():
        if name in decoded:
            raise OptionError(
                f"{name!r} is already a result of task {task.name!r}; leave it out of extra_outputs"
            )
        value = function(graph, features[0], outputs)
        if not isinstance(value, Tensor) or not value.ndim:
            raise PluginError(
                f"extra output {name!r} of task {task.name!r} is {type(value).__name__}, not a tensor "
                "with one entry per image"
            )
        results[name] = value.float() if value.is_floating_point() else value
    return results
