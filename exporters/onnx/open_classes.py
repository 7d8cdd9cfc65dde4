"""Files whose classes are optional inputs: default values, and the proof with other classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx
from torch import Tensor

from visiongraft.certificate import Comparison
from visiongraft.data.nearest import Size
from visiongraft.exporters.onnx.session import session_run
from visiongraft.exporters.open_graph import OpenGraph, with_other_classes
from visiongraft.exporters.verification.trials import Trials
from visiongraft.verification.engine import TOLERANCE, Pair
from visiongraft.verification.pytorch import TorchReference

OTHER = "other classes"  # ``Comparison.inputs`` of random images with other classes


def set_defaults(model: onnx.ModelProto, values: Mapping[str, Tensor]) -> None:
    """Give inputs default values, so that a run need not pass them.

    Args:
        model: A traced model; changed in place.
        values: Values by name of the input.
    """
    taken = {entry.name for entry in model.graph.input}
    for name, value in values.items():
        if name in taken:
            model.graph.initializer.append(onnx.numpy_helper.from_array(value.numpy(), name))


def prove_other_classes(
    file: Path, graph: OpenGraph, size: Size | None, batches: Sequence[int]
) -> list[Comparison]:
    """Compare a file with PyTorch on random images, with fewer and with more classes than its own.

    Args:
        file: The file.
        graph: The graph that it was made from.
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
        run = session_run(file, other, defaults=False)
        extras, inputs = tuple(graph.extra_outputs), graph.preprocess.inputs
        pair = Pair(TorchReference(other), run, compare, TOLERANCE, extras, inputs)
        result = Trials(pair, config.size, len(config.mean), size).on_random(batch)
        found.append(replace(result, inputs=OTHER))
    return found
