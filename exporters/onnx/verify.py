"""Prove an ONNX file: run it in onnxruntime on the CPU, next to PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from visiongraft.comparison import Arrays
from visiongraft.data.nearest import Size
from visiongraft.data.samples import Samples
from visiongraft.errors import ExportError, one_line
from visiongraft.exporters.verification import proof
from visiongraft.exporters.verification.proof import Findings
from visiongraft.exporters.verification.trial_images import BATCHES
from visiongraft.network import InferenceGraph
from visiongraft.verification.engine import RunBatch


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
        samples: Real images with targets, or ``None``; required with a budget.
        size: Height and width of a file whose input size is fixed.
        batches: Sizes of the batches.
        budget: How much worse a lower precision may make the headline; ``None`` for full precision.

    Returns:
        The results.

    Raises:
        ExportError: The file cannot be loaded, or does not pass.
    """
    run = _session_run(file, graph)
    return proof.verify(run, graph, samples, size, batches=batches, budget=budget)


def _session_run(file: Path, graph: InferenceGraph) -> RunBatch:
    """Load a file and return a function that runs it on raw images."""
    try:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base
        cause = one_line(error)
        raise ExportError(f"onnxruntime cannot load the file: {cause}") from error
    inputs = {entry.name for entry in session.get_inputs()}
    names = [output.name for output in session.get_outputs()]

    def run(images: NDArray[np.uint8]) -> Arrays:
        with torch.inference_mode():
            given = graph.inputs(torch.tensor(images))
        arrays = {name: x.numpy() for name, x in given.items() if name in inputs}
        return dict(zip(names, session.run(None, arrays), strict=True))

    return run
