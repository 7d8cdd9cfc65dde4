"""A task of a third party with two optimizers: features that do not tell which camera took an image.

After Ganin et al., 2016, "Domain-adversarial training of neural networks", with alternating steps instead
of reversed gradients: the critic learns to recognize the camera from the features, and the network learns
the class while it makes the critic guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from visiongraft import (
    Backbone,
    Batch,
    Features,
    Network,
    OptimizerSpec,
    Samples,
    Splits,
    Task,
    hookimpl,
)
from visiongraft.data.images import DatasetSamples
from visiongraft.task import Arrays, Decoded, TaskExamples

CLASSES = ("horizontal", "vertical")
WIDTH = 16  # of the embedding that the critic sees


class Head(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, WIDTH)
        self.output = nn.Linear(WIDTH, len(CLASSES))

    def forward(self, features: Features) -> dict[str, Tensor]:
        embedding = self.project(features.pooled).relu()
        return {"logits": self.output(embedding), "embedding": embedding}


class Loss(nn.Module):
    """Holds the critic, which is trained, checkpointed and resumed, and never exported."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.critic = nn.Sequential(nn.Linear(WIDTH, 16), nn.ReLU(), nn.Linear(16, 2))

    def forward(
        self, outputs: dict[str, Tensor], targets: Any, optimizer: str
    ) -> dict[str, Tensor]:
        labels, cameras = targets
        embedding = outputs["embedding"].float()
        if optimizer == "critic":
            return {"camera": F.cross_entropy(self.critic(embedding.detach()), cameras)}
        guesses = self.critic(embedding).log_softmax(1)
        return {
            "entropy": F.cross_entropy(outputs["logits"].float(), labels),
            "confusion": -self.weight * guesses.mean(),
        }


class Accuracy:
    def __init__(self) -> None:
        self.right = self.count = 0

    def update(self, decoded: Arrays, targets: Any) -> None:
        self.right += int((decoded["label"] == np.asarray(targets[0])).sum())
        self.count += len(targets[0])

    def compute(self) -> dict[str, Any]:
        return {"accuracy": self.right / self.count}


@dataclass(frozen=True)
class Direction:
    name: str
    score: float


@dataclass(frozen=True)
class Stripes(Task):
    """Direction of stripes, whichever camera took the image."""

    weight: float = 0.1
    critic_rate: float = 2.0

    name: ClassVar[str] = "stripes"
    headline: ClassVar[str] = "accuracy"
    adversarial: ClassVar[bool] = True

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        samples = self.read_evaluation(data)
        held = [i for i in range(len(samples)) if i % 5 == 0]
        kept = [i for i in range(len(samples)) if i % 5]
        return Splits(samples.subset(kept), samples.subset(held))

    def read_evaluation(self, data: Any) -> Samples:
        return DatasetSamples.of(data)

    def optimizers(self) -> tuple[OptimizerSpec, ...]:
        return (
            OptimizerSpec(
                "critic", ("loss.critic",), "adamw", rate=self.critic_rate, clip_norm=5.0
            ),
            OptimizerSpec("network", ("backbone", "head")),
        )

    def build_head(self, backbone: Backbone) -> nn.Module:
        return Head(backbone.info.embedding_dim)

    def build_loss(self) -> nn.Module:
        return Loss(self.weight)

    def training_step(self, network: Network, batch: Batch) -> Mapping[str, Tensor]:
        outputs = network.head(network.backbone(batch.images))
        parts: dict[str, Tensor] = network.loss(outputs, batch.targets, batch.step.optimizer)
        return parts

    def decode(self, outputs: dict[str, Tensor], sizes: Tensor) -> Decoded:
        scores = outputs["logits"].float().softmax(1)
        return {"scores": scores, "label": scores.argmax(1)}

    def build_metrics(self) -> Accuracy:
        return Accuracy()

    def predictions(self, decoded: Arrays) -> list[Direction]:
        return [
            Direction(CLASSES[int(label)], float(scores[label]))
            for label, scores in zip(decoded["label"], decoded["scores"], strict=True)
        ]

    def metadata(self) -> dict[str, Any]:
        return {"class_names": list(CLASSES)}

    def examples(self) -> TaskExamples:
        return TaskExamples(make_dataset, ideal)


def make_dataset(folder: Path, count: int, seed: int) -> list[tuple[Any, tuple[int, int]]]:
    """Draw stripes; one camera sees red where the other sees blue."""
    random = np.random.default_rng(seed)
    return [draw(random, i % 2, i // 2 % 2) for i in range(count)]


def draw(random: np.random.Generator, label: int, camera: int) -> tuple[Any, tuple[int, int]]:
    height, width = (int(n) for n in random.integers(24, 48, 2))
    rows, columns = np.mgrid[:height, :width]
    wave = np.sin((columns if label else rows) * 2 * np.pi / random.uniform(5, 8))
    image = random.integers(0, 50, (height, width, 3)).astype(np.uint8)
    image[..., 2 * camera] = (150 + 100 * wave).astype(np.uint8)
    return image, (label, camera)


def ideal(targets: Any) -> Arrays:
    labels = np.asarray(targets[0])
    return {"scores": np.eye(len(CLASSES), dtype=np.float32)[labels], "label": labels}


@hookimpl
def register_tasks() -> list[type[Task]]:
    return [Stripes]
