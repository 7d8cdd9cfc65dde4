"""A task of a third party whose targets are partly missing: which of several marks an image has.

People annotate what they looked for, so that most images have an answer for some marks only. The loss is a
mean over the answers, not over the images, whichever images share a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiongraft import Backbone, Features, Samples, Splits, Task, hookimpl
from visiongraft.data.images import DatasetSamples
from visiongraft.task import Arrays, Decoded, TaskExamples

MARKS = ("red", "green", "blue")
MISSING = -1


class Head(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.output = nn.Linear(dim, len(MARKS))

    def forward(self, features: Features) -> Tensor:
        logits: Tensor = self.output(features.pooled)
        return logits


class Answers(nn.Module):
    """Binary cross-entropy, a sum over the answers and their number."""

    def forward(self, logits: Tensor, targets: Tensor) -> Mapping[str, tuple[Tensor, Tensor]]:
        known = (targets != MISSING).float()
        losses = F.binary_cross_entropy_with_logits(
            logits.float(), targets.clamp(min=0).float(), reduction="none"
        )
        return {"answers": ((losses * known).sum(), known.sum())}


class Correct:
    def __init__(self) -> None:
        self.right = self.count = 0

    def update(self, decoded: Arrays, targets: Any) -> None:
        answers = np.asarray(targets)
        known = answers != MISSING
        self.right += int((decoded["marks"] == answers)[known].sum())
        self.count += int(known.sum())

    def compute(self) -> dict[str, Any]:
        return {"correct": self.right / max(self.count, 1)}


@dataclass(frozen=True)
class Found:
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Marks(Task):
    """Which colored marks an image has."""

    name: ClassVar[str] = "marks"
    headline: ClassVar[str] = "correct"

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        samples = self.read_evaluation(data)
        held = [i for i in range(len(samples)) if i % 5 == 0]
        kept = [i for i in range(len(samples)) if i % 5]
        return Splits(samples.subset(kept), samples.subset(held))

    def read_evaluation(self, data: Any) -> Samples:
        return DatasetSamples.of(data)

    def collate(self, targets: list[Any]) -> Tensor:
        return torch.tensor(targets, dtype=torch.int64).reshape(-1, len(MARKS))

    def build_head(self, backbone: Backbone) -> nn.Module:
        return Head(backbone.info.embedding_dim)

    def build_loss(self) -> nn.Module:
        return Answers()

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        scores = outputs.float().sigmoid()
        return {"scores": scores, "marks": (scores > 0.5).long()}

    def build_metrics(self) -> Correct:
        return Correct()

    def predictions(self, decoded: Arrays) -> list[Found]:
        return [
            Found(tuple(mark for mark, there in zip(MARKS, row, strict=True) if there))
            for row in decoded["marks"]
        ]

    def examples(self) -> TaskExamples:
        return TaskExamples(make_dataset, ideal)


def make_dataset(folder: Path, count: int, seed: int) -> list[tuple[Any, list[int]]]:
    """Draw marks; a third of the answers is missing, and for one image all."""
    random = np.random.default_rng(seed)
    found = []
    for index in range(count):
        height, width = (int(n) for n in random.integers(24, 48, 2))
        image = random.integers(0, 50, (height, width, 3)).astype(np.uint8)
        answers = [int(random.random() < 0.5) for _ in MARKS]
        for channel, there in enumerate(answers):
            top, left = int(random.integers(height // 2)), int(random.integers(width // 2))
            image[top : top + height // 2, left : left + width // 2, channel] += np.uint8(
                180 * there
            )
        known = random.random(len(MARKS)) > 1 / 3 if index != 3 else np.zeros(len(MARKS), bool)
        found.append((image, [a if k else MISSING for a, k in zip(answers, known, strict=True)]))
    return found


def ideal(targets: Any) -> Arrays:
    marks = np.asarray(targets).clip(min=0)
    return {"scores": marks.astype(np.float32), "marks": marks}


@hookimpl
def register_tasks() -> list[type[Task]]:
    return [Marks]
