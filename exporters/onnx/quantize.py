"""Static quantization to 8 bits: which layers, with which ranges, and how they are written.

Layers are convolutions and matrix products with constant weights, together with the ReLU or clip
right behind them, whose range is the one that counts. Everything else stays float32.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantType,
    create_calibrator,
)
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import save_and_reload_model_with_shape_infer

from visiongraft.errors import ExportError, one_line
from visiongraft.system.progress import track

Feeds = Mapping[str, NDArray[Any]]

LAYERS = ("Conv", "Gemm", "MatMul")
ACTIVATIONS = ("Relu", "Clip")
CALIBRATIONS = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}
PERCENTILE = 99.999
_CHUNK = 4  # images whose activations are in memory at a time


@dataclass(frozen=True)
class Scheme:
    """How values are mapped to 8 bits.

    Attributes:
        per_channel: Whether each output channel's weights have a scale of their own.
        reduce_range: Whether weights use 7 bits, so that sums of products cannot saturate on
            processors without the instructions for 8.
        calibration: ``"minmax"`` or ``"percentile"``, where activations' ranges come from.
    """

    per_channel: bool
    reduce_range: bool
    calibration: str


class Quantizer:
    """Writes quantized versions of one float32 model.

    Args:
        model: As traced; not changed.

    Raises:
        ExportError: It has no layer that can be quantized.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.layers = _layers(model)
        self._ranges: dict[str, Any] = {}
        if not self.layers:
            raise ExportError(f"the model has no {', '.join(LAYERS)} with constant weights")

    def calibrate(self, method: str, feeds: Iterable[Feeds]) -> None:
        """Find the ranges of activations.

        Args:
            method: One of ``CALIBRATIONS``.
            feeds: The inputs of each call.
        """
        options = {"symmetric": False, "percentile": PERCENTILE}
        with tempfile.TemporaryDirectory() as folder, _quiet():
            file = Path(folder) / "model.onnx"
            onnx.save(self._prepared, file)
            calibrator = create_calibrator(
                file,
                [*LAYERS, *ACTIVATIONS],
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=CALIBRATIONS[method],
                providers=["CPUExecutionProvider"],
                extra_options=options,
            )
            for chunk in track(_chunks(feeds, _CHUNK), f"calibration ({method})", None, len):
                calibrator.collect_data(_Reader(chunk))
            self._ranges[method] = calibrator.compute_data()

    def modules(self, layers: Iterable[str]) -> list[str]:
        """Name layers as the model does, as far as their weights still identify them.

        Args:
            layers: Some of ``self.layers``.

        Returns:
            Names such as ``"backbone.model.conv_stem"``, else those of the graph.
        """
        weights = {node.name: node.input[1] for node in self.model.graph.node if node.input[1:]}
        end = ".weight"
        return [w.removesuffix(end) if (w := weights[n]).endswith(end) else n for n in layers]

    def quantized(self, scheme: Scheme, layers: Iterable[str]) -> onnx.ModelProto:
        """Quantize some layers.

        Args:
            scheme: How; its calibration has been done.
            layers: Which ones, of ``self.layers``; the others stay float32.

        Returns:
            A model with the same inputs and outputs.

        Raises:
            ExportError: onnxruntime cannot quantize it.
        """
        nodes = [name for layer in layers for name in (layer, *self.layers[layer])]
        kinds = {node.op_type for node in self.model.graph.node if node.name in set(nodes)}
        try:
            with _quiet():
                quantizer = QDQQuantizer(
                    copy.deepcopy(self._prepared),
                    scheme.per_channel,
                    scheme.reduce_range,
                    QuantType.QInt8,
                    QuantType.QUInt8,
                    self._ranges[scheme.calibration],
                    nodes,
                    [],
                    sorted(kinds),
                    {},
                )
                quantizer.quantize_model()
                quantizer.model.topological_sort()  # which ONNX requires
        except Exception as error:  # the quantizer raises anything
            raise ExportError(
                f"onnxruntime cannot quantize the model: {one_line(error)}"
            ) from error
        model: onnx.ModelProto = quantizer.model.model
        return model

    @cached_property
    def _prepared(self) -> onnx.ModelProto:
        """The model with the shapes of its activations."""
        with _quiet():
            prepared: onnx.ModelProto = save_and_reload_model_with_shape_infer(self.model)
        prepared.ClearField("metadata_props")
        return prepared


def _layers(model: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """Find the layers, by name, each with its activation if it has one."""
    constants = {tensor.name for tensor in model.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found: dict[str, tuple[str, ...]] = {}
    for node in model.graph.node:
        if node.op_type in LAYERS and node.input[1] in constants:
            behind = readers.get(node.output[0], [])
            alone = len(behind) == 1 and behind[0].op_type in ACTIVATIONS
            found[node.name] = (behind[0].name,) if alone else ()
    return found


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self.feeds = iter(feeds)

    def get_next(self) -> Feeds | None:
        return next(self.feeds, None)


def _chunks(feeds: Iterable[Feeds], size: int) -> Iterator[list[Feeds]]:
    chunk: list[Feeds] = []
    for one in feeds:
        chunk.append(one)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's progress messages and deprecation warnings off the user's terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            yield
    finally:
        logging.disable(level)
