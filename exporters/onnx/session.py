"""Run ONNX models in onnxruntime on the CPU, with the inputs that PyTorch's graph takes."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from visiongraft.comparison import Arrays
from visiongraft.errors import ExportError, one_line
from visiongraft.network import InferenceGraph
from visiongraft.verification.engine import RunBatch

ERRORS = 3  # of onnxruntime's levels of severity


def open_model(model: Path | onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Open a model.

    Args:
        model: A file, or its content.

    Returns:
        A session on the CPU.

    Raises:
        ExportError: onnxruntime cannot load it.
    """
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS  # it warns of inputs with default values
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ExportError(f"onnxruntime cannot load the file: {one_line(error)}") from error


def inputs_of(graph: InferenceGraph, images: NDArray[np.uint8], names: Container[str]) -> Arrays:
    """Make the inputs of a model.

    Args:
        graph: The graph that the model was traced from, of any form.
        images: Raw images, uint8 (N, H, W, C).
        names: Names of the model's inputs; it may lack some of the graph's.

    Returns:
        Arrays by name.
    """
    with torch.inference_mode():
        inputs = graph.inputs(torch.tensor(images))
    return {name: value.numpy() for name, value in inputs.items() if name in names}


def session_run(
    model: Path | onnx.ModelProto, graph: InferenceGraph, defaults: bool = True
) -> RunBatch:
    """Open a model and return a function that runs it on raw images.

    Args:
        model: A file, or its content.
        graph: The graph that it was traced from, of any form.
        defaults: Leave inputs that have default values at these.

    Returns:
        A function from raw images, uint8 (N, H, W, C), to results by name.

    Raises:
        ExportError: onnxruntime cannot load it.
    """
    session = open_model(model)
    inputs = {entry.name for entry in session.get_inputs()}
    if not defaults:
        inputs |= {entry.name for entry in session.get_overridable_initializers()}
    outputs = [entry.name for entry in session.get_outputs()]

    def run(images: NDArray[np.uint8]) -> Arrays:
        values = session.run(None, inputs_of(graph, images, inputs))
        return dict(zip(outputs, values, strict=True))

    return run
