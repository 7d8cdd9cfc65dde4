"""A task of a third party on clips: whether a scene fades in or out, which no single frame tells.

``Task.inputs`` says that samples are clips. The backbone runs on their frames, so that features have these
as second axis, and the head compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from visiongraft import Backbone, Features, Samples, Splits, Task, hookimpl
from visiongraft.data.images import DatasetSamples
from visiongraft.inputs import Clips
from visiongraft.task import Arrays, Decoded, TaskExamples, Transform

FADES = ("in", "out")


class Head(nn.Module):
    """Compares each frame with the one before."""

    def __init__(self, dim: int, frames: int) -> None:
        super().__init__()
        self.output = nn.Linear(dim * (frames - 1), len(FADES))

    def forward(self, features: Features) -> Tensor:
        changes = features.pooled.diff(dim=1)
        logits: Tensor = self.output(changes.flatten(1))
        return logits


class Loss(nn.Module):
    def forward(self, logits: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        return {"cross_entropy": F.cross_entropy(logits.float(), targets)}


class Correct:
    def __init__(self) -> None:
        self.right = self.count = 0

    def update(self, decoded: Arrays, targets: Any) -> None:
        self.right += int((decoded["labels"] == np.asarray(targets)).sum())
        self.count += len(targets)

    def compute(self) -> dict[str, Any]:
        return {"correct": self.right / max(self.count, 1)}


@dataclass(frozen=True)
class Fading:
    fade: str
    probability: float


class Crop:
    """Crops the same part of all frames."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.crop = v2.RandomResizedCrop(size, (0.6, 1), antialias=True)

    def __call__(self, clip: Any, target: int) -> tuple[Any, int]:
        return self.crop(clip), target


@dataclass(frozen=True)
class Fades(Task):
    """Whether a clip fades in or out."""

    name: ClassVar[str] = "fades"
    headline: ClassVar[str] = "correct"

    frames: int = 4

    @property
    def inputs(self) -> Clips:  # type: ignore[override]
        return Clips(self.frames)

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        samples = self.read_evaluation(data)
        held = [i for i in range(len(samples)) if i % 5 == 0]
        kept = [i for i in range(len(samples)) if i % 5]
        return Splits(samples.subset(kept), samples.subset(held))

    def read_evaluation(self, data: Any) -> Samples:
        return DatasetSamples.of(data, array=self.inputs.array)

    def train_transform(self, preprocess: Any) -> Transform:
        return Crop(preprocess.size)

    def build_head(self, backbone: Backbone) -> nn.Module:
        return Head(backbone.info.embedding_dim, self.frames)

    def build_loss(self) -> nn.Module:
        return Loss()

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        probabilities = outputs.float().softmax(1)
        return {"probabilities": probabilities, "labels": probabilities.argmax(1)}

    def build_metrics(self) -> Correct:
        return Correct()

    def predictions(self, decoded: Arrays) -> list[Fading]:
        pairs = zip(decoded["labels"], decoded["probabilities"], strict=True)
        return [Fading(FADES[label], float(row[label])) for label, row in pairs]

    def metadata(self) -> dict[str, Any]:
        return {"class_names": list(FADES)}

    def examples(self) -> TaskExamples:
        return TaskExamples(make_dataset, ideal)


def make_dataset(folder: Path, count: int, seed: int) -> list[tuple[Any, int]]:
    """Make clips of noise that gets brighter or darker, some of them longer than others."""
    random = np.random.default_rng(seed)
    found = []
    for index in range(count):
        height, width = (int(n) for n in random.integers(24, 40, 2))
        length, label = int(random.integers(4, 7)), index % 2
        light = np.linspace(40, 200, length)[:: 1 - 2 * label, None, None, None]
        noise = random.integers(-30, 31, (length, height, width, 3))
        found.append(((light + noise).astype(np.uint8), label))
    return found


def ideal(targets: Any) -> Arrays:
    labels = np.asarray(targets)
    return {"probabilities": np.eye(len(FADES), dtype=np.float32)[labels], "labels": labels}


@hookimpl
def register_tasks() -> list[type[Task]]:
    return [Fades]
