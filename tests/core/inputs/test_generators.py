"""A task whose inputs are latents trains on images, is evaluated on latents, and predicts from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import visiongraft
from visiongraft.backbone import Backbone
from visiongraft.data.batch import Batch
from visiongraft.data.images import DatasetSamples
from visiongraft.data.samples import Samples, Splits, WrappedSamples
from visiongraft.inputs import Latents
from visiongraft.loss_parts import LossParts
from visiongraft.network import Network
from visiongraft.task import Arrays, Decoded, Task

LATENTS = Latents(3)


@dataclass(frozen=True)
class DrawnSamples(WrappedSamples):
    """A latent in place of each image, whose mean color is the target."""

    def target(self, index: int) -> Any:
        return self.base.load(index).mean((0, 1)) / 255

    def load(self, index: int, channels: int = 3) -> Any:
        return LATENTS.draw(len(self), seed=0)[index]

    def content(self, index: int) -> bytes | None:
        return None


class Colors(nn.Module):
    """Makes a color of a latent."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(LATENTS.length, 3)

    def forward(self, latents: Tensor) -> Tensor:
        colors: Tensor = self.linear(latents)
        return colors


class Gap:
    """Distance between the mean colors of what is drawn and of what is real."""

    def __init__(self) -> None:
        self.drawn: list[Any] = []
        self.real: list[Any] = []

    def update(self, decoded: Arrays, targets: Any) -> None:
        self.drawn += list(decoded["colors"])
        self.real += list(np.asarray(targets))

    def compute(self) -> dict[str, Any]:
        return {"gap": float(np.abs(np.mean(self.drawn, 0) - np.mean(self.real, 0)).max())}


@dataclass(frozen=True)
class Painter(Task):
    name = "painter"
    headline = "gap"
    better = "lower"
    inputs = LATENTS

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        images = DatasetSamples.of(data)
        held = range(0, len(images), 4)
        kept = [i for i in range(len(images)) if i % 4]
        return Splits(images.subset(kept), DrawnSamples(images.subset(held)))

    def read_evaluation(self, data: Any) -> Samples:
        return DrawnSamples(DatasetSamples.of(data))

    def build_head(self, backbone: Backbone) -> nn.Module:
        return Colors()

    def build_loss(self) -> nn.Module:
        return nn.Identity()

    def training_step(self, network: Network, batch: Batch) -> LossParts:
        preprocess = network.preprocess
        pixels = (batch.images * preprocess.std + preprocess.mean) / 255
        drawn = network.head(torch.randn(len(pixels), LATENTS.length))
        return {"apart": (drawn.mean(0) - pixels.mean((0, 2, 3))).square().sum()}

    def inference_step(self, network: Any, images: Tensor) -> Tensor:
        colors: Tensor = network.head(images)
        return colors

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        return {"colors": outputs}

    def build_metrics(self) -> Gap:
        return Gap()

    def predictions(self, decoded: Arrays) -> list[Any]:
        return [tuple(float(value) for value in color) for color in decoded["colors"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("painter")


@pytest.fixture(scope="module")
def painter(toy_data: Any, folder: Path) -> Any:
    return visiongraft.fit(
        toy_data(24),
        task=Painter(),
        backbone="toys/toy",
        weights=None,
        schedule="linear_probe(learning_rate=0.1)",
        epochs=8,
        batch_size=8,
        device="cpu",
        callbacks=(),
        out=folder / "run",
    )


def test_it_learns_from_images_and_is_measured_on_latents(painter: Any, toy_data: Any) -> None:
    assert painter.evaluate(toy_data(24))["gap"] < 0.2


def test_it_predicts_from_latents_also_once_it_is_loaded(painter: Any, folder: Path) -> None:
    latents = LATENTS.draw(4, seed=1)
    loaded = visiongraft.load(folder / "run", task=Painter)
    assert loaded.predict(latents) == painter.predict(latents)
    assert len(set(painter.predict(latents))) == 4


def test_drawing_predictions_needs_no_image(painter: Any, tmp_path: Path) -> None:
    painter.predict(LATENTS.draw(1), save=tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
