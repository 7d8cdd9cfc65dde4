"""A generator is exported, proved, checked again, and draws images from seeds without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visiongraft.backbone import Backbone
from visiongraft.certificate import Certificate
from visiongraft.cli import main
from visiongraft.data.samples import Samples, Splits
from visiongraft.errors import ExportError, OptionError
from visiongraft.exporters.onnx.exporter import OnnxExporter
from visiongraft.exporters.runtime.predictor import Predictor
from visiongraft.exporters.verification.proof import verify
from visiongraft.exporters.verification.recheck import recheck
from visiongraft.inputs import Latents
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.task import Arrays, Decoded, Task

LENGTH = 6


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(LENGTH, 8), nn.Tanh(), nn.Linear(8, 3 * 4 * 4))

    def forward(self, latents: Tensor) -> Tensor:
        pixels: Tensor = self.layers(latents).unflatten(1, (3, 4, 4)).sigmoid()
        return pixels


@dataclass(frozen=True)
class Drawing(Task):
    name: ClassVar[str] = "drawing"
    headline: ClassVar[str] = "error"
    inputs: ClassVar[Latents] = Latents(LENGTH)

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        raise NotImplementedError

    def read_evaluation(self, data: Any) -> Samples:
        raise NotImplementedError

    def build_head(self, backbone: Backbone) -> nn.Module:
        return Generator()

    def build_loss(self) -> nn.Module:
        return nn.Identity()

    def inference_step(self, network: Any, images: Tensor) -> Tensor:
        pixels: Tensor = network.head(images)
        return pixels

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        return {"images": outputs}

    def build_metrics(self) -> Any:
        raise NotImplementedError

    def predictions(self, decoded: Arrays) -> list[Any]:
        return list(decoded["images"])


@dataclass(frozen=True)
class ExportedGenerator:
    model: TransferModel
    path: Path
    certificate: Certificate


@pytest.fixture(scope="module")
def generator(small_backbone: Any, tmp_path_factory: pytest.TempPathFactory) -> ExportedGenerator:
    torch.manual_seed(0)
    model = TransferModel(Network(small_backbone().eval(), Drawing()).eval())
    path = tmp_path_factory.mktemp("latents") / "drawing.onnx"
    return ExportedGenerator(model, path, OnnxExporter().export(model, path, None))


def test_the_proof_runs_on_latents(generator: ExportedGenerator) -> None:
    kinds = {(c.inputs, c.batch) for c in generator.certificate.comparisons}
    assert kinds == {("random", 1), ("random", 3), ("random", 8), ("plain", 1), ("plain", 3)}
    assert generator.certificate.mismatches == 0
    assert generator.certificate.certified


def test_a_file_that_changes_a_latent_is_refused(generator: ExportedGenerator) -> None:
    run, graph = Predictor(generator.path).run, generator.model.inference_graph()
    with pytest.raises(ExportError, match="disagrees with PyTorch"):
        verify(lambda raw: run(raw[:, ::-1].copy()), graph, None, certify=False)


def test_it_is_checked_again(generator: ExportedGenerator) -> None:
    assert recheck(generator.path).passed


def test_the_file_draws_what_the_model_draws(generator: ExportedGenerator) -> None:
    predictor = Predictor(generator.path)
    assert str(predictor.input) == f"float32 (latents, {LENGTH})"
    latents = predictor.input.inputs.draw(5, seed=3)
    drawn = [one["images"] for one in predictor.predict(latents)]
    assert np.allclose(drawn, generator.model.predict(latents), atol=1e-6)


def test_a_size_is_refused(generator: ExportedGenerator, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="latents have no height and width"):
        OnnxExporter().export(generator.model, tmp_path / "a.onnx", None, size=(4, 4))


def test_the_command_line_draws_samples_from_a_seed(
    generator: ExportedGenerator, capsys: pytest.CaptureFixture[str]
) -> None:
    def drawn(*options: str) -> str:
        assert main(["predict", str(generator.path), "--json", *options]) == 0
        return capsys.readouterr().out

    first, again, other = (drawn("--samples", "2", "--seed", seed) for seed in "112")
    assert first == again != other
    assert main(["predict", str(generator.path)]) == 2
    assert "--samples COUNT" in capsys.readouterr().err
    assert main(["predict", str(generator.path), "photos"]) == 2
    assert "latents are drawn; leave out photos" in capsys.readouterr().err
