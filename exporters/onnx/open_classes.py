"""Files whose classes are optional inputs: default values, and the proof with other classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from torch import Tensor

from visiongraft.certificate import Comparison
from visiongraft.data.nearest import Size
from visiongraft.exporters.onnx.session import session_run
from visiongraft.exporters.open_graph import OpenGraph
from visiongraft.exporters.verification.other_classes import prove_with_other_classes


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
    """Compare a file with PyTorch with other classes; see ``prove_with_other_classes``."""
    return prove_with_other_classes(
        lambda other: session_run(file, other, defaults=False), graph, size, batches
    )
