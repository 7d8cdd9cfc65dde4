"""The bare network: preprocessed images in, for users with their own preprocessing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from visiongraft.errors import ExportError, OptionError
from visiongraft.exporters.float_graph import FloatGraph
from visiongraft.exporters.onnx.exporter import OnnxExporter
from visiongraft.exporters.onnx.options import ExportOptions
from visiongraft.exporters.onnx.session import session_run
from visiongraft.exporters.runtime.predictor import Predictor
from visiongraft.exporters.verification.proof import verify
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import Decoded


def test_a_task_that_needs_no_sizes_has_one_input(
    make_small_model: Any, exported: Any, tmp_path: Path
) -> None:
    @dataclass(frozen=True)
    class WithoutArea(type(exported.model.task)):  # type: ignore[misc]
        def decode(self, outputs: Any, sizes: Any) -> Decoded:
            decoded: Decoded = super().decode(outputs, sizes)
            del decoded["area"]
            return decoded

    model, path = make_small_model(WithoutArea()), tmp_path / "bare.onnx"
    certificate = OnnxExporter().export(model, path, exported.photos, input="float")
    assert [entry.name for entry in onnx.load(path).graph.input] == ["images"]
    assert {check.batch for check in certificate.comparisons} == {1, 3, 8}
    predictor = Predictor(path)
    assert (predictor.input.kind, predictor.input.sizes) == ("float", None)
    graph = model.inference_graph()
    images = torch.tensor(exported.photos.load(0)[None])
    found = predictor.run(graph.preprocess(images).numpy())
    assert found["classes"] == graph(images)["classes"].numpy()


def test_a_wrong_network_behind_the_float_input_is_caught(bare: Any, tmp_path: Path) -> None:
    graph = FloatGraph(bare.model.inference_graph())
    path = tmp_path / "bare.onnx"
    model = bare.load()
    for tensor in model.graph.initializer:
        if tensor.name == "head.linear.bias":
            bias = onnx.numpy_helper.to_array(tensor) + np.float32([1, 0, 0])
            tensor.CopyFrom(onnx.numpy_helper.from_array(bias, tensor.name))
    onnx.save(model, path)
    with pytest.raises(ExportError, match="disagrees with PyTorch"):
        verify(session_run(path, graph), graph, bare.photos)


def test_the_size_is_the_networks_own_unless_images_keep_theirs() -> None:
    crop, pad = PreprocessConfig((32, 48)), PreprocessConfig((32, 64), resize="pad")
    floating = ExportOptions(input="float")
    assert floating.for_network(crop).size is None
    assert floating.for_network(pad).size == (32, 64)
    assert replace(floating, size=(96, 32)).for_network(pad).size == (96, 32)
    assert ExportOptions(size=(96, 50)).for_network(pad).size == (96, 50)
    with pytest.raises(OptionError, match="the input has the network's own size, 32x48"):
        replace(floating, size=(32, 48)).for_network(crop)
    with pytest.raises(OptionError, match="takes multiples of 32"):
        replace(floating, size=(96, 50)).for_network(pad)
