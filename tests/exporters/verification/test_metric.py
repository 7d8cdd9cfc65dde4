"""Files with inputs or outputs of another size are measured at the original image size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from visiongraft.certificate import Certificate
from visiongraft.data.nearest import at_size
from visiongraft.exporters.float_graph import FloatGraph
from visiongraft.exporters.onnx.exporter import OnnxExporter
from visiongraft.exporters.onnx.session import session_run
from visiongraft.exporters.verification.proof import BudgetError, verify
from visiongraft.exporters.verification.recheck import recheck
from visiongraft.lookup.backbones import load_backbone
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.task import Decoded, ExportSupport

FIXED = {"size": (40, 56)}
BARE = {"input": "float"}


def test_each_pixel_is_that_which_covers_its_center() -> None:
    maps = np.arange(12).reshape(1, 3, 4)
    pillow = torch.nn.functional.interpolate(
        torch.tensor(maps[:, None]).double(), (7, 9), mode="nearest-exact"
    )
    found = at_size({"labels": maps, "count": np.arange(4)}, (3, 4), (7, 9))
    assert found["labels"].tolist() == pillow[:, 0].long().tolist()
    assert found["count"].shape == (4,)
    back = at_size(found, (7, 9), (3, 4))
    assert back["labels"].tolist() == maps.tolist()


class MapHead(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(channels, 3, 1)

    def forward(self, features: Any) -> dict[str, Tensor]:
        return {"maps": self.score(features.maps[1])}


class PixelAgreement:
    """Fraction of pixels whose class is the target's; maps of another size cannot be compared."""

    def __init__(self) -> None:
        self.right: list[float] = []

    def update(self, decoded: Any, targets: Sequence[Any]) -> None:
        for labels, target in zip(decoded["labels"], targets, strict=True):
            assert labels.shape == target.shape
            self.right.append(float((labels == target).mean()))

    def compute(self) -> dict[str, Any]:
        return {"agreement": float(np.mean(self.right))}


@pytest.fixture(scope="module")
def mapped(exported: Any) -> tuple[TransferModel, Any]:
    """A model whose results are maps, and images whose targets are its own predictions."""

    @dataclass(frozen=True)
    class Maps(type(exported.model.task)):  # type: ignore[misc]
        full_resolution_outputs = ("maps",)

        def build_head(self, backbone: Any) -> nn.Module:
            return MapHead(backbone.info.channels[1])

        def decode(self, outputs: dict[str, Tensor], sizes: Tensor) -> Decoded:
            scores = outputs["maps"].softmax(1)
            return {"labels": scores.argmax(1), "scores": scores}

        def build_metrics(self) -> Any:
            return PixelAgreement()

        def collate(self, targets: list[Any]) -> Any:
            return targets

    torch.manual_seed(0)
    backbone = load_backbone("simple_cnn", weights=None, size=32)
    backbone.info = replace(
        backbone.info, preprocess=replace(backbone.info.preprocess, resize="stretch")
    )
    model = TransferModel(Network(backbone, Maps()).eval())
    graph = model.inference_graph()

    class Known(type(exported.photos)):  # type: ignore[misc]
        def target(self, index: int) -> Any:
            with torch.inference_mode():
                return graph(torch.tensor(self.images[index][None]))["labels"][0].numpy()

    return model, Known(exported.photos.images)


@pytest.fixture(
    scope="module", params=[FIXED, pytest.param(BARE, marks=pytest.mark.exhaustive)], ids=str
)
def written(
    mapped: tuple[TransferModel, Any],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, Any], Path, Certificate]:
    """Options that change the size of the maps, and a file with them."""
    model, samples = mapped
    path = tmp_path_factory.mktemp("maps") / "maps.onnx"
    return request.param, path, OnnxExporter().export(model, path, samples, **request.param)


def test_maps_of_another_size_are_measured_and_verified_at_the_images_own(
    mapped: tuple[TransferModel, Any], written: tuple[dict[str, Any], Path, Certificate]
) -> None:
    model, samples = mapped
    _, path, certificate = written
    assert certificate.metric_torch == certificate.metric_exported
    assert certificate.metric_torch is not None
    assert 0.8 < certificate.metric_torch < 1.0  # a pixel at a border may fall to either side
    assert any("resized to the original image size" in line for line in certificate.warnings)
    report = recheck_with(path, model, samples)
    assert report.metric == certificate.metric_exported and report.passed


def recheck_with(path: Path, model: TransferModel, samples: Any) -> Any:
    """Check a file with a task and images that come from no plugin and no folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "visiongraft.exporters.verification.recheck._task_of", lambda file: (model.task, "")
        )
        patch.setattr("visiongraft.exporters.verification.recheck._samples", lambda *given: samples)
        return recheck(path)


@pytest.mark.exhaustive
def test_a_lower_precision_of_such_maps_is_held_to_its_budget(
    mapped: tuple[TransferModel, Any],
    written: tuple[dict[str, Any], Path, Certificate],
    traced_already: Any,
    tmp_path: Path,
) -> None:
    model, samples = mapped
    options, exact, _ = written
    with traced_already(exact):
        certificate = OnnxExporter().export(
            model, tmp_path / "maps.onnx", samples, precision="int8", budget=0.2, **options
        )
    assert certificate.metric_torch is not None and certificate.metric_exported is not None
    assert certificate.metric_torch - certificate.metric_exported <= 0.2


def test_swapped_classes_cost_more_than_a_budget(
    mapped: tuple[TransferModel, Any],
    written: tuple[dict[str, Any], Path, Certificate],
    tmp_path: Path,
) -> None:
    model, samples = mapped
    options, exact, _ = written
    path = tmp_path / "maps.onnx"
    content = onnx.load(exact)
    for tensor in content.graph.initializer:
        if tensor.name.startswith("head.score."):
            turned = np.ascontiguousarray(numpy_helper.to_array(tensor)[[1, 2, 0]])
            tensor.CopyFrom(numpy_helper.from_array(turned, tensor.name))
    onnx.save(content, path)
    graph = model.inference_graph()
    graph = FloatGraph(graph) if options == BARE else graph
    with pytest.raises(BudgetError, match="agreement is"):
        verify(session_run(path, graph), graph, samples, options.get("size"), budget=0.2)


def test_a_task_with_positions_rescales_them_itself(
    exported: Any, make_small_model: Any, tmp_path: Path
) -> None:
    @dataclass(frozen=True)
    class Areas(type(exported.model.task)):  # type: ignore[misc]
        """The area of an image is a result in pixels; the correct one is that of the original image."""

        def build_metrics(self) -> Any:
            metrics = super().build_metrics()
            metrics.update = lambda decoded, targets: metrics.right.extend(
                decoded["area"] == [image.shape[0] * image.shape[1] for image in targets]
            )
            return metrics

        def collate(self, targets: list[Any]) -> Any:
            return targets

        def export_support(self) -> ExportSupport:
            return ExportSupport(rescale=rescale_area)

    def rescale_area(decoded: Any, size: Any, target_size: Any) -> Any:
        return {**decoded, "area": decoded["area"] * np.prod(target_size) // np.prod(size)}

    class Known(type(exported.photos)):  # type: ignore[misc]
        def target(self, index: int) -> Any:
            return self.images[index]

    samples = Known(exported.photos.images)
    path = tmp_path / "areas.onnx"
    certificate = OnnxExporter().export(make_small_model(Areas()), path, samples, **FIXED)
    assert certificate.metric_torch == certificate.metric_exported == 1.0
