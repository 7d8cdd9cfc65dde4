"""Two small tasks without any plugin: of the whole image, and of positions in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visiongraft.backbone import Backbone, Features
from visiongraft.data.batch import Batch
from visiongraft.data.images import DatasetSamples
from visiongraft.data.samples import Samples, Splits
from visiongraft.hookspecs import hookimpl
from visiongraft.multi_task.task import MultiTask
from visiongraft.network import Network
from visiongraft.preprocess import PreprocessConfig
from visiongraft.registry.manager import plugins
from visiongraft.task import Arrays, Decoded, Task

COLORS = 3


class ColorHead(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, COLORS)

    def forward(self, features: Features) -> Tensor:
        logits: Tensor = self.linear(features.pooled)
        return logits


class Entropy(nn.Module):
    def forward(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"entropy": nn.functional.cross_entropy(outputs, targets)}


class Right:
    def __init__(self) -> None:
        self.right = self.seen = 0

    def update(self, decoded: Arrays, targets: Any) -> None:
        self.right += int((decoded["label"] == np.asarray(targets)).sum())
        self.seen += len(targets)

    def compute(self) -> dict[str, Any]:
        return {"right": self.right / self.seen, "seen": self.seen}


@dataclass(frozen=True)
class Color(Task):
    """Which color dominates."""

    name: ClassVar[str] = "color"
    headline: ClassVar[str] = "right"
    whole_image_targets: ClassVar[bool] = True
    splits_alike: ClassVar[bool] = True

    known: int = 0

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        samples = self.read_evaluation(data)
        held = [i for i in range(len(samples)) if i % 5 == seed]
        kept = [i for i in range(len(samples)) if i % 5 != seed]
        return Splits(samples.subset(kept), samples.subset(held), {"colors": COLORS})

    def read_evaluation(self, data: Any) -> Samples:
        return data if isinstance(data, Samples) else DatasetSamples.of(data)

    def bind(self, train: Samples) -> Color:
        return type(self)(known=len(train))

    def build_head(self, backbone: Backbone) -> nn.Module:
        return ColorHead(backbone.info.embedding_dim)

    def build_loss(self) -> nn.Module:
        return Entropy()

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        return {"scores": outputs.softmax(1), "label": outputs.argmax(1)}

    def build_metrics(self) -> Right:
        return Right()

    def predictions(self, decoded: Arrays) -> list[Any]:
        return [int(label) for label in decoded["label"]]


class SpotLoss(nn.Module):
    def forward(self, outputs: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        return {"square": (outputs["place"][:, 0] - targets).square().mean()}


class Far:
    def __init__(self) -> None:
        self.errors: list[float] = []

    def update(self, decoded: Arrays, targets: Any) -> None:
        self.errors += np.abs(decoded["place"] - np.asarray(targets)).tolist()

    def compute(self) -> dict[str, Any]:
        return {"far": float(np.mean(self.errors))}


class SpotHead(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 1)

    def forward(self, features: Features) -> dict[str, Tensor]:
        return {"place": self.linear(features.pooled)}


@dataclass(frozen=True)
class Spot(Color):
    """Where a spot is, from 0 at the left to 1; samples of validation are not comparable."""

    name: ClassVar[str] = "spot"
    headline: ClassVar[str] = "far"
    better: ClassVar[Any] = "lower"
    whole_image_targets: ClassVar[bool] = False
    splits_alike: ClassVar[bool] = False

    def train_transform(self, preprocess: PreprocessConfig) -> Any:
        return None

    def build_head(self, backbone: Backbone) -> nn.Module:
        return SpotHead(backbone.info.embedding_dim)

    def build_loss(self) -> nn.Module:
        return SpotLoss()

    def decode(self, outputs: dict[str, Tensor], sizes: Tensor) -> Decoded:
        return {"place": outputs["place"][:, 0]}

    def build_metrics(self) -> Any:
        return Far()

    def predictions(self, decoded: Arrays) -> list[Any]:
        return [float(place) for place in decoded["place"]]


class Plugin:
    @hookimpl
    def register_tasks(self) -> list[type[Task]]:
        return [Color, Spot]


@pytest.fixture(autouse=True, scope="session")
def tasks_are_registered() -> Iterator[None]:
    if "spot" not in plugins().tasks():
        plugins().register(Plugin(), "color and spot")
    yield


@pytest.fixture(name="Color", scope="session")
def color_class() -> type[Color]:
    return Color


@pytest.fixture(name="Spot", scope="session")
def spot_class() -> type[Spot]:
    return Spot


@pytest.fixture
def task() -> MultiTask:
    return MultiTask({"kind": Color(), "place": Spot()}, incomplete=("kind", "place"))


@pytest.fixture
def network_of(toy_network: Network) -> Any:
    """Build the network of a task on the toy backbone, in evaluation mode: batches do not matter."""

    def build(task: Task) -> Network:
        torch.manual_seed(0)
        return Network(toy_network.backbone, task).eval()

    return build


@pytest.fixture
def batch_of() -> Any:
    """Make a batch of random images with the given targets."""

    def make(task: MultiTask, targets: list[dict[str, Any]]) -> Batch:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(len(targets), 3, 16, 16, generator=generator)
        sizes = torch.full((len(targets), 2), 16)
        return Batch(images, task.collate(targets), sizes, torch.arange(len(targets)))

    return make
