"""A small correct task, for the checks of other plugins: backbones, schedules, exporters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from visiongraft.backbone import Backbone, Features
from visiongraft.data.images import DatasetSamples
from visiongraft.data.samples import Samples, Splits
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import (
    Arrays,
    Decoded,
    Disagreement,
    ExportSupport,
    Task,
    TaskExamples,
    Transform,
    compare_arrays,
)
from visiongraft.verification.engine import TOLERANCE

SHADES = 3
# What the tolerance makes one rounding of a float32 number at 1, the brightness of white.
SMALLEST_SCALE = float(np.finfo(np.float32).eps) / TOLERANCE

Dataset = list[tuple[np.ndarray[Any, Any], float]]


@dataclass(frozen=True)
class Measured:
    """The prediction of the specimen.

    Attributes:
        brightness: In 0..1.
    """

    brightness: float


class _Head(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.linear = nn.Linear(dim, 1)

    def forward(self, features: Features) -> Tensor:
        values: Tensor = self.linear(self.norm(features.pooled))
        return values[:, 0]


class _Classifier(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, SHADES)

    def forward(self, features: Features) -> Tensor:
        logits: Tensor = self.linear(features.pooled)
        return logits


class _CrossEntropy(nn.Module):
    def forward(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"cross_entropy": F.cross_entropy(outputs.float(), targets)}


class _Loss(nn.Module):
    def forward(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"squared_error": F.mse_loss(outputs.float(), targets.float())}


class _Flip:
    """Flips half of the images horizontally."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.change = v2.Compose([v2.Resize(size, antialias=True), v2.RandomHorizontalFlip()])

    def __call__(self, image: Any, target: float) -> tuple[Any, float]:
        return self.change(image), target


class _Error:
    """Mean absolute error."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def update(self, decoded: Arrays, targets: Tensor) -> None:
        self.total += float(np.abs(decoded["brightness"] - targets.numpy()).sum())
        self.count += len(targets)

    def compute(self) -> dict[str, Any]:
        return {"mean_error": self.total / self.count}


@dataclass(frozen=True)
class Specimen(Task):
    """How bright an image is, from 0 (black) to 1 (white)."""

    name: ClassVar[str] = "specimen"
    headline: ClassVar[str] = "mean_error"
    better: ClassVar[Literal["higher", "lower"]] = "lower"

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        samples = DatasetSamples.of(data)
        validation_set = range(0, len(samples), max(round(1 / validation), 2))
        kept = [i for i in range(len(samples)) if i not in validation_set]
        return Splits(samples.subset(kept), samples.subset(validation_set))

    def read_evaluation(self, data: Any) -> Samples:
        return DatasetSamples.of(data)

    def train_transform(self, preprocess: PreprocessConfig) -> Transform:
        return _Flip(preprocess.size)

    def build_head(self, backbone: Backbone) -> nn.Module:
        return _Head(backbone.info.embedding_dim)

    def build_loss(self) -> nn.Module:
        return _Loss()

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        return {"brightness": outputs.to(torch.float32)}

    def build_metrics(self) -> _Error:
        return _Error()

    def predictions(self, decoded: Arrays) -> list[Measured]:
        return [Measured(float(value)) for value in decoded["brightness"]]

    def export_support(self) -> ExportSupport:
        return ExportSupport(compare=compare_brightness)

    def examples(self) -> TaskExamples:
        return TaskExamples(make_dataset, lambda targets: {"brightness": targets.numpy()})


@dataclass(frozen=True)
class Shades(Specimen):
    """Which of three shades an image has: dark, gray or light."""

    name: ClassVar[str] = "shades"

    def collate(self, targets: list[float]) -> Tensor:
        return torch.tensor([min(int(target * SHADES), SHADES - 1) for target in targets])

    def build_head(self, backbone: Backbone) -> nn.Module:
        return _Classifier(backbone.info.embedding_dim)

    def build_loss(self) -> nn.Module:
        return _CrossEntropy()

    def class_logits(self, outputs: Tensor) -> Tensor:
        return outputs

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        return {"brightness": outputs.argmax(1).to(torch.float32)}


def compare_brightness(reference: Arrays, candidate: Arrays) -> Disagreement:
    """Compare by relative difference, of values near 0 relative to ``SMALLEST_SCALE``.

    A brightness is a sum of terms of either sign, whose size is that of white. For a black image they
    cancel each other, and what is left is no more exact than the terms.

    Args:
        reference: The values to trust.
        candidate: The values to judge.

    Examples:
        >>> black, other = {"b": np.array([1e-4])}, {"b": np.array([1e-4 + 1.6e-8])}
        >>> compare_brightness(black, other).difference < 1e-4 < compare_arrays(black, other).difference
        True
    """
    padded = (
        {n: np.append(v, SMALLEST_SCALE) for n, v in each.items()}
        for each in (reference, candidate)
    )
    return compare_arrays(*padded)


def make_dataset(folder: Path, count: int, seed: int) -> Dataset:
    """Create noisy gray images of all brightnesses."""
    random = np.random.default_rng(seed)
    return [_image(random, i / max(count - 1, 1)) for i in range(count)]


def _image(random: np.random.Generator, brightness: float) -> tuple[np.ndarray[Any, Any], float]:
    height, width = (int(side) for side in random.integers(20, 50, 2))
    noise = random.integers(-20, 21, (height, width, 3))
    return (brightness * 255 + noise).clip(0, 255).astype(np.uint8), brightness
