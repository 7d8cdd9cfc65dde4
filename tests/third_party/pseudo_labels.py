"""A third party's task in one file: classification that also learns from unlabeled images.

A step predicts the class of each unlabeled image, and where it is sure of it, the prediction for
another view of the image must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from visiongraft import hookimpl
from visiongraft.plugins.classification.task import Classification
from visiongraft.task import TaskExamples

visiongraft_api = "2.0"


class TwoViews:
    """A slightly changed view of an image, and a strongly changed one as its target."""

    def __init__(self, size: tuple[int, int]) -> None:
        crop = v2.RandomResizedCrop(size, scale=(0.6, 1), antialias=True)
        self.weak = v2.Compose([crop, v2.RandomHorizontalFlip()])
        self.strong = v2.Compose([self.weak, v2.ColorJitter(0.4, 0.4), v2.RandomErasing(0.5)])

    def __call__(self, image: Any, target: None) -> tuple[Any, Tensor]:
        return self.weak(image), self.strong(image).as_subclass(Tensor)


@dataclass(frozen=True)
class PseudoLabels(Classification):
    """Classification with pseudo-labels for unlabeled images (FixMatch; Sohn et al., 2020).

    Attributes:
        confidence: Probability from which a prediction becomes a label.
    """

    confidence: float = 0.9

    name = "pseudo-labels"
    streams = ("unlabelled",)

    def stream_transform(self, name: str, preprocess: Any) -> TwoViews:
        return TwoViews(preprocess.size)

    def collate(self, targets: list[Any]) -> Any:
        return torch.stack(targets) if isinstance(targets[0], Tensor) else super().collate(targets)

    def training_step(self, network: Any, batch: Any) -> dict[str, Any]:
        parts = super().training_step(network, batch)
        further = batch.streams["unlabelled"]
        with torch.no_grad():
            logits = network.head(network.backbone(further.images))
            probability, label = logits.float().softmax(1).max(1)
        strong = network.head(network.backbone(network.preprocess.normalize(further.targets)))
        losses = F.cross_entropy(strong.float(), label, reduction="none")
        sure = probability >= self.confidence
        return {**parts, "pseudo": ((losses * sure).sum(), len(sure))}

    def examples(self) -> TaskExamples:
        return replace(super().examples(), make_streams=write_images)


def write_images(folder: Path, count: int, seed: int) -> Mapping[str, Any]:
    generator = np.random.default_rng(seed)
    for number in range(count):
        pixels = generator.integers(0, 256, (24 + number % 3, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return {"unlabelled": folder}


@hookimpl
def register_tasks() -> list[type[Any]]:
    return [PseudoLabels]
