"""A task of clips is exported, proved, checked again, measured, served and predicted like one of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from visiongraft.backbone import Backbone, Features
from visiongraft.certificate import Certificate
from visiongraft.data.images import DatasetSamples
from visiongraft.data.samples import Samples, Splits
from visiongraft.errors import DataError, ExportError, OptionError
from visiongraft.exporters.bench.images import BenchImages
from visiongraft.exporters.onnx.exporter import OnnxExporter
from visiongraft.exporters.onnx.triton.config import describe_for_triton
from visiongraft.exporters.pt2.exporter import Pt2Exporter
from visiongraft.exporters.runtime.predictor import Predictor
from visiongraft.exporters.verification.proof import verify
from visiongraft.exporters.verification.recheck import recheck
from visiongraft.inputs import Clips
from visiongraft.lookup.exported import open_exported
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.task import Arrays, Decoded, Task

FRAMES = 3


class Changes(nn.Module):
    """Weighs what changes from frame to frame, so that their order matters."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim * (FRAMES - 1), 2)

    def forward(self, features: Features) -> Tensor:
        scores: Tensor = self.linear(20 * features.pooled.diff(dim=1).flatten(1))
        return scores


class Right:
    def __init__(self) -> None:
        self.right: list[bool] = []

    def update(self, decoded: Arrays, targets: Any) -> None:
        self.right += list(decoded["labels"] == np.asarray(targets))

    def compute(self) -> dict[str, Any]:
        return {"accuracy": float(np.mean(self.right))}


@dataclass(frozen=True)
class Actions(Task):
    name: ClassVar[str] = "actions"
    headline: ClassVar[str] = "accuracy"
    inputs: ClassVar[Clips] = Clips(FRAMES)

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        raise NotImplementedError

    def read_evaluation(self, data: Any) -> Samples:
        raise NotImplementedError

    def build_head(self, backbone: Backbone) -> nn.Module:
        return Changes(backbone.info.embedding_dim)

    def build_loss(self) -> nn.Module:
        return nn.CrossEntropyLoss()

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        probabilities = outputs.softmax(1)
        return {"probabilities": probabilities, "labels": probabilities.argmax(1)}

    def build_metrics(self) -> Right:
        return Right()

    def predictions(self, decoded: Arrays) -> list[int]:
        return [int(label) for label in decoded["labels"]]

    def metadata(self) -> dict[str, Any]:
        return {"class_names": ["left", "right"]}


def scenes(count: int) -> list[tuple[Any, int]]:
    """Return clips (T, H, W, C) of several lengths and sizes."""
    random = np.random.default_rng(0)
    found = []
    for index in range(count):
        height, width = (int(n) for n in random.integers(24, 48, 2))
        light = np.linspace(40, 200, FRAMES + index % 2)[:, None, None, None]
        noise = random.integers(-40, 41, (len(light), height, width, 3))
        found.append(((light + noise).astype(np.uint8), index % 2))
    return found


@dataclass(frozen=True)
class ExportedClips:
    model: TransferModel
    samples: Samples
    path: Path
    certificate: Certificate


@pytest.fixture(scope="module")
def model(small_backbone: Any) -> TransferModel:
    torch.manual_seed(0)
    return TransferModel(Network(small_backbone().eval(), Actions()).eval())


@pytest.fixture(scope="module")
def clips(model: TransferModel, tmp_path_factory: pytest.TempPathFactory) -> ExportedClips:
    samples = DatasetSamples.of(scenes(7), array=Actions.inputs.array)
    path = tmp_path_factory.mktemp("clips") / "actions.onnx"
    return ExportedClips(model, samples, path, OnnxExporter().export(model, path, samples))


def test_the_proof_covers_real_random_and_plain_clips(clips: ExportedClips) -> None:
    kinds = {(c.inputs, c.batch) for c in clips.certificate.comparisons}
    assert {("real", 1), ("real", 3), ("random", 8), ("plain", 3)} <= kinds
    assert clips.certificate.mismatches == 0
    assert clips.certificate.metric_torch == clips.certificate.metric_exported
    assert clips.certificate.certified


def test_a_file_that_reads_frames_in_another_order_is_refused(clips: ExportedClips) -> None:
    run = Predictor(clips.path).run
    graph = clips.model.inference_graph()
    with pytest.raises(ExportError, match="disagrees with PyTorch"):
        verify(lambda raw: run(raw[:, ::-1]), graph, clips.samples, certify=False)


def test_the_file_describes_its_clips(clips: ExportedClips) -> None:
    predictor = Predictor(clips.path)
    described = {"name": "clips", "layout": "NTCHW", "dtype": "uint8", "frames": FRAMES}
    assert described.items() <= predictor.metadata["input"].items()
    assert str(predictor.input) == f"uint8 (clips, {FRAMES}, 3, any, any)"
    assert predictor.input.inputs == Actions.inputs


def test_it_predicts_clips_of_any_length_and_size(clips: ExportedClips, tmp_path: Path) -> None:
    given = [clip for clip, _ in scenes(7)]
    predicted = Predictor(clips.path).predict(given)
    labels = [int(one["labels"]) for one in predicted]
    assert labels == clips.model.predict(given)
    with pytest.raises(DataError, match="clip must be the path of a video"):
        Predictor(clips.path).predict([given[0][0]])
    with pytest.raises(DataError, match="fewer than the 3"):
        Predictor(clips.path).predict([given[0][:2]])


def test_it_reads_a_folder_of_frames(clips: ExportedClips, tmp_path: Path) -> None:
    scene, predictor = scenes(1)[0][0], Predictor(clips.path)
    for i, frame in enumerate(scene):
        Image.fromarray(frame).save(tmp_path / f"{i}.png")
    (one,), (other,) = predictor.predict(tmp_path), predictor.predict([scene])
    assert np.array_equal(one["probabilities"], other["probabilities"])


def test_other_arrays_are_refused(clips: ExportedClips) -> None:
    with pytest.raises(
        DataError, match=r"takes uint8 \(clips, 3, 3, any, any\), not uint8 \(1, 4,"
    ):
        Predictor(clips.path).run(np.zeros((1, 4, 3, 32, 32), np.uint8))


def test_it_is_checked_again(clips: ExportedClips) -> None:
    report = recheck(clips.path)
    assert report.passed
    passed = {check.name for check in report.checks if check.passed}
    assert {"content", "certified results", "plain images", "random images"} <= passed


def test_a_benchmark_makes_clips_of_its_images(clips: ExportedClips) -> None:
    spec = Predictor(clips.path).input
    batch = BenchImages.of(None, 2).batch(2, spec, None)
    assert spec.accepts(batch)


def test_triton_serves_clips(clips: ExportedClips) -> None:
    assert f"dims: [ {FRAMES}, 3, -1, -1 ]" in describe_for_triton(clips.path, "actions").text


def test_clips_without_preprocessing_are_refused(clips: ExportedClips, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"input='float' is for images.*takes clips"):
        OnnxExporter().export(clips.model, tmp_path / "a.onnx", None, input="float")
    assert not list(tmp_path.iterdir())


@pytest.mark.exhaustive
def test_a_file_of_one_size_resizes_frames(clips: ExportedClips, tmp_path: Path) -> None:
    path = tmp_path / "fixed.onnx"
    certificate = OnnxExporter().export(clips.model, path, clips.samples, size=(32, 40))
    assert certificate.mismatches == 0
    assert Predictor(path).input.shape(1, None, None) == (1, FRAMES, 3, 32, 40)


@pytest.mark.exhaustive
def test_a_program_of_clips_is_proved_as_well(clips: ExportedClips, tmp_path: Path) -> None:
    path = tmp_path / "actions.pt2"
    certificate = Pt2Exporter().export(clips.model, path, clips.samples)
    assert certificate.mismatches == 0
    outputs = open_exported(path).metadata["outputs"]
    assert outputs[0]["shape"] == ["batch", 2]
