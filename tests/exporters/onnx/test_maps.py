"""Maps at the original image size, padded images and a task's own operators, in exported files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from visiongraft.backbone import Backbone, Features
from visiongraft.data.samples import Image
from visiongraft.errors import ExportError
from visiongraft.exporters.onnx.exporter import OnnxExporter
from visiongraft.exporters.runtime.predictor import Predictor
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.task import Arrays, Decoded, ExportSupport, Task


@torch.library.custom_op("visiongraft_tests::mirrored", mutates_args=())
def mirrored(maps: Tensor) -> Tensor:
    """Flip maps horizontally with numpy, which no exporter can trace."""
    return torch.from_numpy(maps.numpy()[..., ::-1].copy())


@mirrored.register_fake
def _(maps: Tensor) -> Tensor:
    return torch.empty_like(maps)


class MapHead(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(channels, 3, 1)

    def forward(self, features: Features) -> dict[str, Tensor]:
        return {"maps": self.score(features.maps[1])}


class Specialised(MapHead):
    """Decides by the size of a feature map, which tracing turns into a constant."""

    def forward(self, features: Features) -> dict[str, Tensor]:
        factor = 2.0 if features.maps[1].shape[-1] > 11 else 1.0
        return {"maps": self.score(features.maps[1]) * factor}


class NoMetric:
    def update(self, decoded: Arrays, targets: Any) -> None:
        """Take no arguments."""

    def compute(self) -> dict[str, Any]:
        return {"none": 0.0}


@dataclass(frozen=True)
class Maps(Task):
    name: ClassVar[str] = "maps"
    headline: ClassVar[str] = "none"
    full_resolution_outputs: ClassVar[tuple[str, ...]] = ("maps",)
    head: ClassVar[type[MapHead]] = MapHead
    own_operator: ClassVar[bool] = False

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Any:
        raise NotImplementedError

    def read_evaluation(self, data: Any) -> Any:
        raise NotImplementedError

    def build_head(self, backbone: Backbone) -> nn.Module:
        return self.head(backbone.info.channels[1])

    def build_loss(self) -> nn.Module:
        return nn.MSELoss()

    def decode(self, outputs: dict[str, Tensor], sizes: Tensor) -> Decoded:
        maps = mirrored(outputs["maps"]) if self.own_operator else outputs["maps"]
        return {"maps": maps}

    def build_metrics(self) -> NoMetric:
        return NoMetric()

    def predictions(self, decoded: Arrays) -> list[Any]:
        return list(decoded["maps"])


class Specialising(Maps):
    head = Specialised


class Mirroring(Maps):
    own_operator = True

    def export_support(self) -> ExportSupport:
        return ExportSupport(operators={"onnx": self.onnx_operators})

    def onnx_operators(self) -> Mapping[Any, Callable[..., Any]]:
        from onnxscript import opset18 as op

        def turn(maps: Any) -> Any:
            begin, end = op.Constant(value_ints=[-1]), op.Constant(value_ints=[-(2**31)])
            axis = op.Constant(value_ints=[3])
            return op.Slice(maps, begin, end, axis, begin)

        return {torch.ops.visiongraft_tests.mirrored.default: turn}


@pytest.fixture
def model_of(small_backbone: Any) -> Callable[[Task, str], TransferModel]:
    """Return a function that builds the model of a task."""

    def build(task: Task, resize: str) -> TransferModel:
        torch.manual_seed(0)
        return TransferModel(Network(small_backbone(resize), task).eval())

    return build


@pytest.mark.parametrize("resize", ["stretch", pytest.param("pad", marks=pytest.mark.exhaustive)])
def test_the_file_returns_maps_at_the_size_of_any_image(
    resize: str, model_of: Any, make_samples: Any, images: list[Image], tmp_path: Path
) -> None:
    model = model_of(Maps(), resize)
    path = tmp_path / "maps.onnx"
    certificate = OnnxExporter().export(model, path, make_samples(images))
    assert certificate.mismatches == 0 and certificate.difference < 1e-4
    assert not any("fixed" in warning for warning in certificate.warnings)
    for image in (images[0][:45, :71], images[3][:130, :33]):
        (found,) = Predictor(path).run(image[None])["maps"]
        (expected,) = model.predict(image)
        assert found.shape == (3, *image.shape[:2])
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.exhaustive  # as .pt2 files are
def test_a_padded_network_that_fixes_its_size_is_exported_for_one_size_with_a_warning(
    model_of: Any, make_samples: Any, images: list[Image], tmp_path: Path
) -> None:
    model = model_of(Specialising(), "pad")
    path = tmp_path / "fixed.onnx"
    certificate = OnnxExporter().export(model, path, make_samples(images))
    (warning,) = [w for w in certificate.warnings if w.startswith("the input is fixed")]
    assert "32x32 pixels (size= chooses), since no file for images of any size agrees" in warning
    assert b"patient-" not in path.read_bytes()
    dims = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 32, 32, 3]


@pytest.mark.exhaustive  # two exports
def test_a_file_that_is_wrong_at_its_one_size_too_is_refused(
    model_of: Any, make_samples: Any, images: list[Image], tmp_path: Path
) -> None:
    class Deceiving(Maps):
        def decode(self, outputs: dict[str, Tensor], sizes: Tensor) -> Decoded:
            return {"maps": outputs["maps"] + float(torch.compiler.is_exporting())}

    with pytest.raises(ExportError, match="disagrees with PyTorch"):
        OnnxExporter().export(
            model_of(Deceiving(), "pad"), tmp_path / "x.onnx", make_samples(images)
        )
    assert list(tmp_path.iterdir()) == []


def test_a_tasks_own_operator_is_exported_by_its_own_implementation(
    model_of: Any, make_samples: Any, images: list[Image], tmp_path: Path
) -> None:
    model = model_of(Mirroring(), "stretch")
    path = tmp_path / "own.onnx"
    OnnxExporter().export(model, path, make_samples(images))
    plain = model_of(Maps(), "stretch").predict(images[0])[0]
    np.testing.assert_allclose(
        Predictor(path).run(images[0][None])["maps"][0], plain[..., ::-1], atol=1e-4
    )
