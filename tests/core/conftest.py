"""A small real task, backbone and dataset: the core is tested without any plugin's task."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

import visiongraft
from visiongraft.adapters import Adapter, Applied, LayerAdapter
from visiongraft.backbone import Backbone, BackboneInfo, BackboneSource, Features
from visiongraft.config import FitConfig
from visiongraft.data.batch import Batch
from visiongraft.data.images import DatasetSamples
from visiongraft.data.samples import Samples, Splits
from visiongraft.data.splits import stratified_split
from visiongraft.hookspecs import hookimpl
from visiongraft.loss_parts import LossParts
from visiongraft.network import Network
from visiongraft.preprocess import PreprocessConfig
from visiongraft.registry.manager import plugins
from visiongraft.task import Arrays, Decoded, Task

SIZE = 16


class ToyBackbone(Backbone):
    """Three stages of convolution, batch norm and ReLU, with dropout between them."""

    def __init__(self, size: int = SIZE) -> None:
        channels = (4, 8, 12)
        names = ("stem", "stage1", "stage2")
        blocks: dict[str, nn.Module] = {}
        before = 3
        for name, after in zip(names, channels, strict=True):
            blocks[name] = nn.Sequential(
                nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
                nn.Dropout(0.1),
            )
            before = after
        model = nn.ModuleDict(blocks)
        tensors = [*model.named_parameters(), *model.named_buffers()]
        # In the order of the stages, as every backbone has it.
        stage_of = {f"blocks.{n}": s for s in names for n, _ in tensors if n.startswith(s + ".")}
        super().__init__(
            BackboneInfo(
                name="toys/toy",
                stage_of=stage_of,
                channels=channels,
                strides=(2, 4, 8),
                embedding_dim=channels[-1],
                preprocess=PreprocessConfig(size=(size, size)),
            )
        )
        self.blocks = model

    def forward(self, images: Tensor) -> Features:
        maps = []
        for block in self.blocks.values():
            images = block(images)
            maps.append(images)
        return Features(tuple(maps), images.mean((2, 3)))

    def checkpointed_modules(self) -> list[nn.Module]:
        return list(self.blocks.values())


class ToyHead(nn.Module):
    def __init__(self, dim: int, classes: int, maps: bool) -> None:
        super().__init__()
        self.maps = maps
        self.norm = nn.BatchNorm1d(dim)
        self.drop = nn.Dropout(0.2)
        self.linear = nn.Linear(dim, classes)

    def forward(self, features: Features) -> Tensor:
        x = features.maps[1].amax((2, 3)) if self.maps else features.pooled
        return self.linear(self.drop(self.norm(x)))


class ToyLoss(nn.Module):
    """A loss with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        entropy = nn.functional.cross_entropy(outputs * self.scale, targets)
        return {"entropy": entropy, "penalty": 0.01 * (self.scale - 1) ** 2}


class ToyMetrics:
    def __init__(self) -> None:
        self.right = self.seen = 0

    def update(self, decoded: Arrays, targets: Any) -> None:
        self.right += int((decoded["label"] == np.asarray(targets)).sum())
        self.seen += len(targets)

    def compute(self) -> dict[str, Any]:
        return {"share_right": self.right / self.seen, "seen": self.seen, "table": [[self.right]]}


@dataclass(frozen=True)
class Toy(Task):
    """Which of three colors dominates."""

    classes: int = 3
    augment: bool = True
    maps: bool = False

    name = "toy"
    headline = "share_right"

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        samples = DatasetSamples.of(data)
        kept, out = stratified_split(
            [samples.target(i) for i in range(len(samples))], validation, seed
        )
        return Splits(samples.subset(kept), samples.subset(out), {"kind": "toy"})

    def read_evaluation(self, data: Any) -> Samples:
        return DatasetSamples.of(data)

    def train_transform(self, preprocess: PreprocessConfig) -> Any:
        if not self.augment:
            return None
        crop = v2.Compose(
            [v2.RandomResizedCrop(preprocess.size, (0.5, 1)), v2.RandomHorizontalFlip()]
        )
        return lambda image, target: (crop(image), target)

    def mix(self, images: Tensor, targets: Any) -> tuple[Tensor, Any]:
        return images + 0.01 * torch.randn(1), targets

    def build_head(self, backbone: Backbone) -> nn.Module:
        dim = backbone.info.channels[1] if self.maps else backbone.info.embedding_dim
        return ToyHead(dim, self.classes, self.maps)

    def build_loss(self) -> nn.Module:
        return ToyLoss()

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        return {"scores": outputs.softmax(1), "label": outputs.argmax(1)}

    def build_metrics(self) -> ToyMetrics:
        return ToyMetrics()

    def predictions(self, decoded: Arrays) -> list[Any]:
        return [int(label) for label in decoded["label"]]


@dataclass(frozen=True)
class StreamingToy(Toy):
    """Also learns that noise does not change its answers for unlabeled images."""

    name = "streaming-toy"
    streams = ("unlabelled",)

    def stream_transform(self, name: str, preprocess: PreprocessConfig) -> Any:
        return self.train_transform(preprocess)

    def training_step(self, network: Network, batch: Batch) -> LossParts:
        parts = super().training_step(network, batch)
        images = batch.streams["unlabelled"].images
        plain, noisy = (
            network.head(network.backbone(each))
            for each in (images, images + 0.1 * torch.randn_like(images))
        )
        moved = (plain.detach() - noisy).square().mean(1)
        return {**parts, "consistency": (moved.sum(), len(moved))}


def toy_data(count: int, seed: int = 0) -> list[tuple[np.ndarray[Any, Any], int]]:
    """Noisy images in which channel ``target`` is brighter."""
    generator = np.random.Generator(np.random.PCG64(seed))
    items = []
    for i in range(count):
        image = generator.integers(0, 200, (20, 24, 3), dtype=np.uint8)
        image[..., i % 3] += 55
        items.append((image, i % 3))
    return items


class Gain(LayerAdapter):
    """Multiplies the channels of a convolution by factors."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, layer: nn.Module, plain: Any, *args: Any) -> Tensor:
        return self.factor * plain(*args)

    def fold(self, layer: nn.Module, parameter: str | None) -> None:
        layer.weight.mul_(self.factor[..., None])


class Gains(Adapter):
    """Factors for the channels of all convolutions, at first 1."""

    name = "gains"

    def apply(self, backbone: Backbone) -> Applied:
        for name, module in list(backbone.named_modules()):
            if isinstance(module, nn.Conv2d):
                self.attach(backbone, name, Gain(module.out_channels))
        return Applied()


class ToySource(BackboneSource):
    prefix = "toys"

    def names(self) -> list[str]:
        return ["toy", "toy32"]

    def build(self, name: str, **_: Any) -> Backbone:
        return ToyBackbone(32 if name == "toy32" else SIZE)


class ToyPlugin:
    @hookimpl
    def register_tasks(self) -> list[type[Task]]:
        return [Toy, StreamingToy]

    @hookimpl
    def register_backbones(self) -> list[BackboneSource]:
        return [ToySource()]

    @hookimpl
    def register_adapters(self) -> list[type[Adapter]]:
        return [Gains]


def register_toys() -> None:
    if "toy" not in plugins().tasks():
        plugins().register(ToyPlugin(), "toys")


@pytest.fixture(autouse=True, scope="session")
def toys_are_registered() -> None:
    register_toys()


def fit_toy(data: Any, **settings: Any) -> Any:
    """Fit the toy task with settings that finish in a second."""
    defaults = {
        "task": Toy(augment=False),
        "backbone": "toys/toy",
        "weights": None,
        "schedule": "gradual(probe_learning_rate=0.05, learning_rate=0.02)",
        "epochs": 4,
        "batch_size": 16,
        "device": "cpu",
        "callbacks": (),
    }
    return visiongraft.fit(data, **{**defaults, **settings})


@pytest.fixture(name="fit_toy", scope="session")
def fit_toy_fixture() -> Any:
    return fit_toy


@pytest.fixture(name="toy_data", scope="session")
def toy_data_fixture() -> Any:
    return toy_data


@pytest.fixture(name="Gains", scope="session")
def gains_class() -> type[Adapter]:
    return Gains


@pytest.fixture(name="Toy", scope="session")
def toy_class() -> type[Toy]:
    return Toy


@pytest.fixture(name="StreamingToy", scope="session")
def streaming_toy_class() -> type[StreamingToy]:
    return StreamingToy


@pytest.fixture
def toy_network() -> Network:
    torch.manual_seed(0)
    return Network(ToyBackbone(), Toy())


def make_config(**changes: Any) -> FitConfig:
    """Make the config of a run on the CPU, with the given changes."""
    values: dict[str, Any] = {
        **{name: p.default for name, p in inspect.signature(visiongraft.fit).parameters.items()},
        "task": "toy",
        "task_options": {},
        "backbone": "toys/toy",
        "weights": None,
        "schedule": {"name": "full", "options": {}},
        "adapters": [],
        "transfer_loss": [],
        "epochs": 10,
        "batch_size": 4,
        "device": "cpu",
        **changes,
    }
    return FitConfig(**{f.name: values[f.name] for f in fields(FitConfig)})


@pytest.fixture(name="make_config", scope="session")
def make_config_fixture() -> Any:
    return make_config
