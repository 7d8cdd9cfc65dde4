"""The proof of a file whose classes are inputs: it agrees with PyTorch on other classes, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from visiongraft.certificate import Comparison
from visiongraft.data.nearest import Size
from visiongraft.exporters.open_graph import OpenGraph, with_other_classes
from visiongraft.exporters.verification.trials import Trials
from visiongraft.verification.engine import TOLERANCE, Pair, RunBatch
from visiongraft.verification.pytorch import TorchReference

OTHER = "other classes"  # ``Comparison.inputs`` of random images with other classes


def prove_with_other_classes(
    run_of: Callable[[OpenGraph], RunBatch],
    graph: OpenGraph,
    size: Size | None,
    batches: Sequence[int],
) -> list[Comparison]:
    """Compare a file with PyTorch on random images, with fewer and with more classes than its own.

    Args:
        run_of: Returns a function that runs the file with the classes of a graph.
        graph: The graph that the file was made from.
        size: Height and width of a file whose input size is fixed.
        batches: Sizes of the batches.

    Returns:
        The comparisons.

    Raises:
        ExportError: The file disagrees.
    """
    config, compare = graph.preprocess.config, graph.task.export_support().compare
    own = len(next(iter(graph.values.values())))
    found = []
    for count, batch in ((own + 3, 1), (max(2, own - 1), batches[0] if batches else 1)):
        other = with_other_classes(graph, count)
        extras, inputs = tuple(graph.extra_outputs), graph.preprocess.inputs
        pair = Pair(TorchReference(other), run_of(other), compare, TOLERANCE, extras, inputs)
        result = Trials(pair, config.size, len(config.mean), size).on_random(batch)
        found.append(replace(result, inputs=OTHER))
    return found
