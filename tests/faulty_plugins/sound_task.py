"""A small sound task, which each faulty plugin breaks in one way: the color of an image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from visiongraft import hookimpl
from visiongraft.data.images import DatasetSamples
from visiongraft.data.labels import LabelMap
from visiongraft.data.samples import Samples, SampleSubset, Splits
from visiongraft.data.splits import stratified_split
from visiongraft.task import Task, TaskExamples

visiongraft_api = "2.0"
COLORS = ("red", "green", "blue")


@dataclass(frozen=True)
class Labeled(SampleSubset):
    labels: tuple[str, ...] = ()

    def subset(self, indices):
        return Labeled(self.base, tuple(self.indices[i] for i in indices), self.labels)


@dataclass(frozen=True)
class Colored:
    color: str
    probability: float


class Head(nn.Module):
    def __init__(self, dim: int, labels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, labels)

    def forward(self, features):
        return self.linear(features.pooled)


class Loss(nn.Module):
    """Cross-entropy with a learned scale."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, outputs, targets):
        return {"entropy": F.cross_entropy(outputs.float() * self.scale, targets)}


class Accuracy:
    def __init__(self) -> None:
        self.right = self.count = 0

    def update(self, decoded, targets):
        self.right += int((decoded["label"] == targets.numpy()).sum())
        self.count += len(targets)

    def compute(self):
        return {"accuracy": self.right / self.count}


class Flip:
    def __init__(self, size) -> None:
        self.change = v2.Compose([v2.Resize(size, antialias=True), v2.RandomHorizontalFlip()])

    def __call__(self, image, target):
        return self.change(image), target


@dataclass(frozen=True)
class Color(Task):
    """Which color an image has."""

    labels: tuple[str, ...] = ()

    name = "color"
    headline = "accuracy"

    def examples(self) -> TaskExamples | None:
        return TaskExamples(make_dataset, self.ideal)

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        names = self.labels or LabelMap.from_names(DatasetSamples.of(data).targets).names
        samples = DatasetSamples.of(data, names.index)
        parts = stratified_split(samples.targets, validation, seed)
        return Splits(*(Labeled(samples, tuple(part), names) for part in parts))

    def read_evaluation(self, data: Any) -> Samples:
        return DatasetSamples.of(data, self.labels.index)

    def bind(self, train: Samples) -> Color:
        return replace(self, labels=train.labels)

    def train_transform(self, preprocess):
        return Flip(preprocess.size)

    def build_head(self, backbone):
        return Head(backbone.info.embedding_dim, len(self.labels))

    def build_loss(self):
        return Loss()

    def decode(self, outputs: Tensor, sizes: Tensor):
        probabilities = outputs.float().softmax(1)
        return {"probabilities": probabilities, "label": probabilities.argmax(1)}

    def ideal(self, targets: Tensor):
        sure = F.one_hot(targets, len(self.labels)).float()
        return {"probabilities": sure.numpy(), "label": targets.numpy()}

    def build_metrics(self):
        return Accuracy()

    def predictions(self, decoded):
        pairs = zip(decoded["label"], decoded["probabilities"], strict=True)
        return [Colored(self.labels[i], float(p[i])) for i, p in pairs]

    def metadata(self):
        return {"labels": list(self.labels)}


def make_dataset(folder: Path, count: int, seed: int) -> Any:
    random = np.random.default_rng(seed)
    return [(draw(random, i % 3), COLORS[i % 3]) for i in range(count)]


def draw_stream(folder: Path, count: int, seed: int) -> Any:
    """Draw what a faulty task with a stream is given."""
    return {"unlabelled": [image for image, _ in make_dataset(folder, count, seed + 1)]}


def draw(random: np.random.Generator, channel: int):
    height, width = random.integers(20, 40, 2)
    image = random.integers(0, 120, (height, width, 3))
    image[..., channel] += 130
    return image.astype(np.uint8)


@hookimpl
def register_tasks():
    return [Color]
