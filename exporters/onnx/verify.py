"""Prove an ONNX file: it runs in onnxruntime on the CPU, next to PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from visiongraft.comparison import Arrays
from visiongraft.data.nearest import Size
from visiongraft.data.samples import Samples
from visiongraft.errors import ExportError, one_line
from visiongraft.exporters.onnx.variants import FloatGraph, feed
from visiongraft.exporters.verification import proof as shared
from visiongraft.exporters.verification.comparing import Reference, Run
from visiongraft.exporters.verification.images import BATCHES
from visiongraft.exporters.verification.proof import Findings
from visiongraft.network import InferenceGraph


def verify(
    file: Path,
    graph: InferenceGraph,
    samples: Samples | None,
    size: Size | None = None,
    *,
    batches: Sequence[int] = BATCHES,
    budget: float | None = None,
) -> Findings:
    """Compare a file with PyTorch; see ``visiongraft.exporters.verification.proof.verify``.

    Args:
        file: The ONNX file.
        graph: The reference, of any form, in evaluation mode, float32, on the CPU.
        samples: Real images with targets, or ``None``; a budget needs some.
        size: Height and width of a file whose input size is fixed.
        batches: Sizes of the batches.
        budget: By how much a lower precision may worsen the headline; ``None`` for full precision.

    Returns:
        What was found.

    Raises:
        ExportError: The file cannot be loaded, or does not pass.
    """
    return shared.verify(
        _session_run(file, graph),
        graph,
        samples,
        size,
        batches=batches,
        budget=budget,
        reference=reference_of(graph),
        bare=bare_size(graph, size),
    )


def bare_size(graph: InferenceGraph, size: Size | None) -> Size | None:
    """Give height and width of the network's input where the file is the bare network.

    Args:
        graph: The graph that the file is made of.
        size: Fixed size of its images.

    Returns:
        The size at which its maps come; ``None`` for a file that takes raw images.
    """
    return (size or graph.preprocess.config.size) if isinstance(graph, FloatGraph) else None


def reference_of(graph: InferenceGraph) -> Reference:
    """Give what PyTorch makes of raw images with a graph of any form."""

    def decode(images: Tensor) -> Arrays:
        with torch.inference_mode():
            decoded = graph(*feed(graph, images).values())
        return {name: tensor.numpy() for name, tensor in decoded.items()}

    return decode


def _session_run(file: Path, graph: InferenceGraph) -> Run:
    """Load a file and give what it makes of raw images."""
    try:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base
        raise ExportError(f"onnxruntime cannot load the file: {one_line(error)}") from error
    inputs = {entry.name for entry in session.get_inputs()}
    names = [output.name for output in session.get_outputs()]

    def run(images: NDArray[np.uint8]) -> Arrays:
        given = feed(graph, torch.tensor(images))
        arrays = {name: x.numpy() for name, x in given.items() if name in inputs}
        return dict(zip(names, session.run(None, arrays), strict=True))

    return run
