"""One small model with real layers, real photographs, and one export of it for all tests here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
import skimage.data
import torch
from torch import Tensor, nn

from tests.exporters.open_classes import Pets, make_pets
from visiongraft.backbone import Backbone, BackboneInfo, Features
from visiongraft.certificate import Certificate
from visiongraft.data.samples import Image, Samples, Splits
from visiongraft.exporters.onnx.exporter import OnnxExporter
from visiongraft.lookup.backbones import load_backbone
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import Arrays, Decoded, Task

SECRET_FOLDER = "/home/someone/private"


class SmallBackbone(Backbone):
    """Two convolutions and a batch norm, which PyTorch traces faster than `simple_cnn`."""

    def __init__(self, resize: str = "stretch", in_channels: int = 3) -> None:
        first = nn.Conv2d(in_channels, 8, 3, stride=2, padding=1, bias=False)
        layers = {
            "stem": nn.Sequential(first, nn.BatchNorm2d(8), nn.ReLU()),
            "stage1": nn.Conv2d(8, 12, 3, stride=2, padding=1),
        }
        blocks = nn.ModuleDict(layers)
        mean, std = (0.45,) * in_channels, (0.25,) * in_channels
        super().__init__(
            BackboneInfo(
                name="tests/small",
                stage_of={f"blocks.{name}": name.partition(".")[0] for name in blocks.state_dict()},
                channels=(8, 12),
                strides=(2, 4),
                embedding_dim=12,
                preprocess=PreprocessConfig(size=(32, 32), mean=mean, std=std, resize=resize),
                in_channels=in_channels,
            )
        )
        self.blocks = blocks

    def forward(self, images: Tensor) -> Features:
        fine = self.blocks["stem"](images)
        coarse = self.blocks["stage1"](fine)
        return Features((fine, coarse), coarse.mean((2, 3)))


class NormalizedHead(nn.Module):
    """BatchNorm, pooling and one linear layer on the last map."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, classes)

    def forward(self, features: Features) -> Tensor:
        logits: Tensor = self.linear(torch.relu(self.norm(features.maps[-1])).mean((2, 3)))
        return logits


class Agreement:
    """Fraction of images whose class is the target."""

    def __init__(self) -> None:
        self.right: list[bool] = []

    def update(self, decoded: Arrays, targets: Tensor) -> None:
        self.right += list(decoded["classes"] == targets.numpy())

    def compute(self) -> dict[str, Any]:
        return {"agreement": float(np.mean(self.right))}


@dataclass(frozen=True)
class Shades(Task):
    """A small real task; it also reports the size of each image."""

    name: ClassVar[str] = "shades"
    headline: ClassVar[str] = "agreement"
    class_names: tuple[str, ...] = ("dark", "middle", "/m/01bright")

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        raise NotImplementedError

    def read_evaluation(self, data: Any) -> Samples:
        raise NotImplementedError

    def build_head(self, backbone: Backbone) -> nn.Module:
        return NormalizedHead(backbone.info.channels[-1], len(self.class_names))

    def build_loss(self) -> nn.Module:
        return nn.CrossEntropyLoss()

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        probabilities = outputs.softmax(dim=1)
        return {
            "probabilities": probabilities,
            "classes": probabilities.argmax(dim=1),
            "area": sizes.prod(dim=1),
        }

    def build_metrics(self) -> Agreement:
        return Agreement()

    def predictions(self, decoded: Arrays) -> list[Any]:
        return [self.class_names[i] for i in decoded["classes"]]

    def metadata(self) -> dict[str, Any]:
        return {"class_names": list(self.class_names)}


class Photos(Samples):
    """Photographs in memory whose names are paths in a private folder."""

    def __init__(self, images: Sequence[Image]) -> None:
        self.images = list(images)
        self.loads = 0

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return f"{SECRET_FOLDER}/patient-{index}.png"

    def target(self, index: int) -> int:
        return index % 3

    def load(self, index: int, channels: int = 3) -> Image:
        self.loads += 1
        return self.images[index]


def build_model(task: Task | None = None, backbone: Backbone | None = None) -> TransferModel:
    """Build a network with an untrained head that still decides differently on the photographs."""
    torch.manual_seed(0)
    backbone = backbone or load_backbone("simple_cnn", weights=None, size=32)
    network = Network(backbone.eval(), task or Shades())
    head = network.head
    assert isinstance(head, NormalizedHead)
    images = [network.preprocess(torch.tensor(p[None])) for p in photographs()]
    with torch.no_grad():
        head.norm.train()
        head.norm.momentum = 1.0
        head(network.backbone(torch.cat(images)))  # fills the running statistics
        network.eval()
        head.linear.weight.mul_(20)
        head.linear.bias.sub_(head(network.backbone(torch.cat(images))).mean(dim=0))
    facts = {"data": f"{SECRET_FOLDER}/flowers", "epochs": 3, "schedule": "lp_ft"}
    return TransferModel(network, facts)


def photographs() -> list[Image]:
    """Return photographs of several sizes, landscape, portrait and square."""
    rocket, cat = skimage.data.rocket()[::2, ::2], skimage.data.chelsea()[::2, ::2]
    cup, woman = skimage.data.coffee()[::3, ::3], skimage.data.astronaut()[::3, ::3]
    images = [rocket, cat, np.rot90(cup), woman, cat[::-1], cup]
    images = [np.ascontiguousarray(image) for image in images]
    for image in images:
        image.flags.writeable = False  # as decoded files are
    return images


@dataclass(frozen=True)
class Exported:
    """An exported file and the model that it was made from."""

    model: TransferModel
    photos: Photos
    path: Path
    certificate: Certificate

    def load(self) -> onnx.ModelProto:
        """Return a fresh copy of the file's content, to plant faults in."""
        return onnx.load(self.path)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Export one model for all tests; they must not change it."""
    model, photos = build_model(), Photos(photographs())
    path = tmp_path_factory.mktemp("exported") / "shades.onnx"
    return Exported(model, photos, path, OnnxExporter().export(model, path, photos))


@pytest.fixture(scope="session")
def bare(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Export the network of that model without its preprocessing."""
    path = tmp_path_factory.mktemp("bare") / "bare.onnx"
    certificate = OnnxExporter().export(exported.model, path, exported.photos, input="float")
    return Exported(exported.model, exported.photos, path, certificate)


@pytest.fixture
def make_model() -> Callable[..., TransferModel]:
    """Return the function that builds the model, for tests that change it."""
    return build_model


@pytest.fixture(scope="session")
def small_backbone() -> type[SmallBackbone]:
    """Return a backbone for tests that export a network of their own."""
    return SmallBackbone


@pytest.fixture
def make_small_model() -> Callable[..., TransferModel]:
    """Return a function that builds a model with that backbone and a task."""
    return lambda task=None: build_model(task, SmallBackbone())


@contextmanager
def traced_already(path: Path) -> Iterator[None]:
    """Take the content of an exported file for the trace of its model, which costs seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "visiongraft.exporters.onnx.exporter.trace", lambda graph, size: onnx.load(path)
        )
        yield


@pytest.fixture(scope="session", name="traced_already")
def traced_already_fixture() -> Callable[[Path], AbstractContextManager[None]]:
    """Return the context in which a file stands in for the trace of its model."""
    return traced_already


@pytest.fixture
def make_samples() -> Callable[[Sequence[Image]], Photos]:
    """Return the function that makes samples of images."""
    return Photos


@pytest.fixture(scope="session")
def images() -> list[Image]:
    """Return the photographs."""
    return photographs()


@pytest.fixture(scope="session")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Pets:
    """Make a classifier whose classes can be exchanged, and other classes for it."""
    return make_pets(tmp_path_factory.mktemp("clip"))
