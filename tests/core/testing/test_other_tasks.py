"""The kit on sound tasks of other kinds: ragged targets, label maps, embeddings measured on pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from tests.short_trials import SHORT, ShortTrial
from visiongraft.backbone import Backbone, Features
from visiongraft.data.images import DatasetSamples
from visiongraft.data.samples import Samples, Splits
from visiongraft.task import (
    Arrays,
    Decoded,
    Disagreement,
    ExportSupport,
    Task,
    TaskExamples,
    compare_arrays,
)
from visiongraft.testing import TASK_CHECKS, Check, TaskTrial
from visiongraft.testing.tasks import FORWARD_CHECKS
from visiongraft.testing.tasks.data import DATA_CHECKS

Generator = np.random.Generator
GRID = 8  # cells a side
MOST = 5  # spots an image


class Plain(Task):
    """Reads a list of (image, target), and holds out every fifth."""

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        samples = DatasetSamples.of(data)
        validation_set = range(0, len(samples), 5)
        kept = [i for i in range(len(samples)) if i not in validation_set]
        return Splits(samples.subset(kept), samples.subset(validation_set))

    def read_evaluation(self, data: Any) -> Samples:
        return DatasetSamples.of(data)

    def examples(self) -> TaskExamples:
        return TaskExamples(self.make_dataset, self.ideal)

    def export_support(self) -> ExportSupport:
        return ExportSupport(compare=self.compare)

    def make_dataset(self, folder: Path, count: int, seed: int) -> Any:
        raise NotImplementedError

    def ideal(self, targets: Any) -> Arrays:
        raise NotImplementedError

    def compare(self, reference: Arrays, candidate: Arrays) -> Disagreement:
        return compare_arrays(reference, candidate)


def dark(random: Generator) -> NDArray[np.uint8]:
    height, width = random.integers(24, 48, 2)
    return random.integers(0, 60, (height, width, 3)).astype(np.uint8)


class Cells(nn.Module):
    """Numbers for each cell of a grid; with normalization and dropout, and more in training."""

    def __init__(self, channels: int, names: tuple[str, ...], numbers: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(channels, 32, 1)
        self.norm = nn.BatchNorm2d(32)
        self.last = nn.ModuleDict({name: nn.Conv2d(32, numbers, 1) for name in names})

    def forward(self, features: Features) -> dict[str, Tensor]:
        cells = F.relu(self.norm(self.inner(F.adaptive_avg_pool2d(features.maps[-2], GRID))))
        cells = F.dropout(cells, 0.1, self.training)
        names = self.last if self.training else ["cells"]
        return {name: self.last[name](cells) for name in names}


# ---- label maps, one array of whole numbers an image ----


@dataclass(frozen=True)
class Map:
    labels: list[list[int]]


def to_grid(mask: Any) -> Tensor:
    pixels = torch.as_tensor(mask, dtype=torch.float32)[None, None]
    return F.interpolate(pixels, size=(GRID, GRID), mode="nearest")[0, 0].long()


class MapLoss(nn.Module):
    """Needs what the head returns in training only."""

    def forward(self, outputs: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        names = ("cells", "extra")
        return {n: F.cross_entropy(outputs[n].float(), targets) for n in names}


class PixelAccuracy:
    def __init__(self) -> None:
        self.right = self.count = 0
        self.table = np.zeros((2, 2), dtype=int)

    def update(self, decoded: Arrays, targets: Tensor) -> None:
        self.right += int((decoded["map"] == targets.numpy()).sum())
        self.count += targets.numel()
        np.add.at(self.table, (targets.numpy().ravel(), decoded["map"].ravel()), 1)

    def compute(self) -> dict[str, Any]:
        return {"accuracy": self.right / self.count, "table": self.table.tolist()}


@dataclass(frozen=True)
class Segments(Plain):
    """Which cells are bright; targets are maps as large as their images."""

    name: ClassVar[str] = "segments"
    headline: ClassVar[str] = "accuracy"

    def make_dataset(self, folder: Path, count: int, seed: int) -> Any:
        random = np.random.default_rng(seed)
        return [self.sample(random, empty=i == 3) for i in range(count)]

    def sample(self, random: Generator, empty: bool) -> tuple[Any, NDArray[np.uint8]]:
        image = dark(random)
        mask = np.zeros(image.shape[:2], dtype=np.uint8)
        top, left = (int(random.integers(0, n // 2)) for n in mask.shape)
        mask[top : top + mask.shape[0] // 2, left : left + mask.shape[1] // 2] = not empty
        image[mask > 0] += 180
        return image, mask

    def collate(self, targets: list[Any]) -> Tensor:
        return torch.stack([to_grid(mask) for mask in targets])

    def build_head(self, backbone: Backbone) -> nn.Module:
        return Cells(backbone.info.channels[-2], ("cells", "extra"), 2)

    def build_loss(self) -> nn.Module:
        return MapLoss()

    def decode(self, outputs: dict[str, Tensor], sizes: Tensor) -> Decoded:
        return {"map": outputs["cells"].float().argmax(1)}

    def build_metrics(self) -> PixelAccuracy:
        return PixelAccuracy()

    def ideal(self, targets: Tensor) -> Arrays:
        return {"map": targets.numpy()}

    def predictions(self, decoded: Arrays) -> list[Map]:
        return [Map(one.tolist()) for one in decoded["map"]]

    def compare(self, reference: Arrays, candidate: Arrays) -> Disagreement:
        """Count by label, which fails on numbers that are not labels."""
        mismatches = 0
        for one, other in zip(reference["map"], candidate["map"], strict=True):
            pairs = np.bincount((2 * one + other).ravel(), minlength=4)
            mismatches += int(pairs[1] + pairs[2])
        return Disagreement(0.0, mismatches)


class RaggedLoss(nn.Module):
    def forward(self, outputs: dict[str, Tensor], targets: list[Tensor]) -> dict[str, Tensor]:
        grids = torch.stack([to_grid(mask) for mask in targets])
        return {"cells": F.cross_entropy(outputs["cells"].float(), grids)}


class RaggedAccuracy(PixelAccuracy):
    def update(self, decoded: Arrays, targets: list[Tensor]) -> None:
        super().update(decoded, torch.stack(targets))


@dataclass(frozen=True)
class SizedSegments(Segments):
    """The same as maps of each image's own size; a batch therefore has one size."""

    name: ClassVar[str] = "sized-segments"
    resize: ClassVar[Any] = "stretch"
    full_resolution_outputs: ClassVar[tuple[str, ...]] = ("cells",)

    def make_dataset(self, folder: Path, count: int, seed: int) -> Any:
        random, found = np.random.default_rng(seed), []
        for i in range(count):  # of two sizes
            image, mask = self.sample(random, empty=i == 3)
            height, width = ((24, 24), (24, 20))[i % 2]
            found.append((image[:height, :width], mask[:height, :width]))
        return found

    def collate(self, targets: list[Any]) -> Any:
        return [torch.as_tensor(mask).long() for mask in targets]

    def build_head(self, backbone: Backbone) -> nn.Module:
        return Cells(backbone.info.channels[-2], ("cells",), 2)

    def build_loss(self) -> nn.Module:
        return RaggedLoss()

    def build_metrics(self) -> RaggedAccuracy:
        return RaggedAccuracy()

    def ideal(self, targets: Any) -> Arrays:
        return {"map": torch.stack(targets).numpy()}


# ---- ragged targets, any number an image ----


@dataclass(frozen=True)
class Spots:
    """Positions in 0..1 of any number of spots; two of these cannot be compared by ``==``."""

    positions: NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    spots: list[dict[str, float]]


class SpotLoss(nn.Module):
    def forward(self, outputs: dict[str, Tensor], targets: list[Tensor]) -> dict[str, Tensor]:
        logits = outputs["cells"][:, 0].float()
        heat = torch.stack([t.to(logits.device) for t in targets])
        weight = torch.where(heat > 0, 20.0, 1.0)
        return {"heat": F.binary_cross_entropy_with_logits(logits, heat, weight)}


class Found:
    """Fraction of images whose spots are all found in their cells, and no others."""

    def __init__(self) -> None:
        self.right: list[bool] = []

    def update(self, decoded: Arrays, targets: list[Tensor]) -> None:
        for cells, count, heat in zip(decoded["cells"], decoded["count"], targets, strict=True):
            expected = set(torch.nonzero(heat.flatten())[:, 0].tolist())
            self.right.append(set(cells[:count].tolist()) == expected)

    def compute(self) -> dict[str, Any]:
        return {"found": float(np.mean(self.right)), "images": len(self.right)}


@dataclass(frozen=True)
class Detects(Plain):
    """Where bright spots are; images may have none, and results are padded to a fixed number."""

    name: ClassVar[str] = "detects"
    headline: ClassVar[str] = "found"
    resize: ClassVar[Any] = "stretch"

    def make_dataset(self, folder: Path, count: int, seed: int) -> Any:
        random = np.random.default_rng(seed)
        return [self.sample(random, i % 4) for i in range(count)]

    def sample(self, random: Generator, count: int) -> tuple[Any, Spots]:
        image = np.zeros((48, 64, 3), dtype=np.uint8)
        cells = random.choice(GRID * GRID, count, replace=False)
        for row, column in zip(cells // GRID, cells % GRID, strict=True):
            image[row * 6 : row * 6 + 6, column * 8 : column * 8 + 8] = 255
        positions = (np.stack([cells // GRID, cells % GRID], 1) + 0.5) / GRID
        return image, Spots(positions)

    def collate(self, targets: list[Spots]) -> list[Tensor]:
        heats = []
        for target in targets:
            heat = torch.zeros(GRID, GRID)
            for row, column in (target.positions * GRID).astype(int):
                heat[row, column] = 1
            heats.append(heat)
        return heats

    def build_head(self, backbone: Backbone) -> nn.Module:
        return Cells(backbone.info.channels[-2], ("cells",), 1)

    def build_loss(self) -> nn.Module:
        return SpotLoss()

    def decode(self, outputs: dict[str, Tensor], sizes: Tensor) -> Decoded:
        scores, cells = outputs["cells"].float().sigmoid().flatten(1).topk(MOST)
        count = (scores > 0.9).sum(1)
        kept = torch.arange(MOST)[None] < count[:, None]
        rows = (cells // GRID + 0.5) / GRID * sizes[:, :1]
        return {"scores": scores * kept, "cells": cells * kept, "rows": rows * kept, "count": count}

    def build_metrics(self) -> Found:
        return Found()

    def ideal(self, targets: list[Tensor]) -> Arrays:
        cells = np.zeros((len(targets), MOST), dtype=np.int64)
        count = np.array([int(heat.sum()) for heat in targets])
        for row, heat in zip(cells, targets, strict=True):
            found = torch.nonzero(heat.flatten())[:, 0]
            row[: len(found)] = found
        scores = (np.arange(MOST)[None] < count[:, None]).astype(np.float32)
        return {"scores": scores, "cells": cells, "rows": scores, "count": count}

    def predictions(self, decoded: Arrays) -> list[Seen]:
        found = []
        for scores, rows, count in zip(
            decoded["scores"], decoded["rows"], decoded["count"], strict=True
        ):
            pairs = zip(scores[:count], rows[:count], strict=True)
            found.append(Seen([{"score": float(s), "row": float(r)} for s, r in pairs]))
        return found

    def compare(self, reference: Arrays, candidate: Arrays) -> Disagreement:
        """Ignore padding, and the order of spots with equal scores."""
        found = [compare_arrays({"n": reference["count"]}, {"n": candidate["count"]})]
        for i, count in enumerate(reference["count"]):
            order, other = (a["cells"][i, :count].argsort() for a in (reference, candidate))
            one = {n: v[i, order] for n, v in reference.items() if n != "count"}
            two = {n: v[i, other] for n, v in candidate.items() if n != "count"}
            found.append(compare_arrays(one, two))
        return Disagreement(max(f.difference for f in found), sum(f.mismatches for f in found))


# ---- embeddings, measured on pairs ----


@dataclass(frozen=True)
class Embedded:
    embedding: tuple[float, ...]


class Embedding(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(dim, 16), nn.BatchNorm1d(16)

    def forward(self, features: Features) -> Tensor:
        return F.normalize(self.norm(self.linear(features.pooled)))


class Proxies(nn.Module):
    """Cross-entropy of the angles to one learned direction for each color."""

    def __init__(self, colors: int) -> None:
        super().__init__()
        self.proxies = nn.Parameter(torch.randn(colors, 16))

    def forward(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {
            "angle": F.cross_entropy(8 * outputs.float() @ F.normalize(self.proxies).T, targets)
        }


class Pairs:
    """How well distances separate pairs of one color from others; undefined without both."""

    def __init__(self) -> None:
        self.embeddings: list[Any] = []
        self.colors: list[int] = []

    def update(self, decoded: Arrays, targets: Tensor) -> None:
        self.embeddings += list(decoded["embedding"])
        self.colors += targets.tolist()

    def compute(self) -> dict[str, Any]:
        one, other = np.triu_indices(len(self.colors), 1)
        alike = np.array(self.colors)[one] == np.array(self.colors)[other]
        if len(set(alike.tolist())) < 2:
            return {"auc": float("nan")}
        near = (np.array(self.embeddings)[one] * np.array(self.embeddings)[other]).sum(1)
        return {"auc": float(roc_auc_score(alike, near))}


@dataclass(frozen=True)
class Recognizes(Plain):
    """Embeddings in which images of one color are near each other."""

    colors: int = 8

    name: ClassVar[str] = "recognizes"
    headline: ClassVar[str] = "auc"

    def make_dataset(self, folder: Path, count: int, seed: int) -> Any:
        random = np.random.default_rng(seed)
        return [self.sample(random, i % self.colors) for i in range(count)]

    def sample(self, random: Generator, color: int) -> tuple[Any, int]:
        image = dark(random)
        return image + np.array([180 * (color >> bit & 1) for bit in range(3)], np.uint8), color

    def examples(self) -> TaskExamples:
        return TaskExamples(self.make_dataset)

    def bind(self, train: Samples) -> Recognizes:
        return replace(self, colors=1 + max(train.target(i) for i in range(len(train))))

    def build_head(self, backbone: Backbone) -> nn.Module:
        return Embedding(backbone.info.embedding_dim)

    def build_loss(self) -> nn.Module:
        return Proxies(self.colors)

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        return {"embedding": outputs.float()}

    def build_metrics(self) -> Pairs:
        return Pairs()

    def predictions(self, decoded: Arrays) -> list[Embedded]:
        return [Embedded(tuple(one.tolist())) for one in decoded["embedding"]]


KINDS = {task.name: task for task in (Segments, SizedSegments, Detects, Recognizes)}
QUICK = {check.name for check in (*DATA_CHECKS, *FORWARD_CHECKS)}
TRAINED = {  # what takes longer and depends on the kind of targets
    "a_few_images_are_overfit",
    "a_killed_run_resumes_exactly",
    "replay_changes_nothing",
    "half_precision_trains",
    "a_saved_model_predicts_the_same",
}
EXPORTED = {"the_exported_file_agrees", "class_names_survive_saving_and_export"}


def checks_of(kind: type[Task]) -> list[Check[Any]]:
    expected = QUICK | TRAINED | (EXPORTED if kind is Detects else set())
    return [check for check in TASK_CHECKS if check.name in expected]


# What the engine does alike for all kinds is tried with one of them in every run of the tests.
ALONE = {
    "a_few_images_are_overfit": Segments,
    "a_killed_run_resumes_exactly": Segments,
    "replay_changes_nothing": Recognizes,
}


def marks_of(kind: type[Task], check: Check[Any]) -> Any:
    alone = ALONE.get(check.name, kind) is kind
    again = kind is SizedSegments and check.name in TRAINED
    exported = check.name in EXPORTED  # as the built-in task is in test_kit.py
    return () if alone and not again and not exported else pytest.mark.exhaustive


@pytest.fixture(scope="module")
def trials() -> dict[str, tuple[TaskTrial, TaskTrial]]:
    """A short and a full trial of each kind."""
    return {name: (ShortTrial(kind()), TaskTrial(kind())) for name, kind in KINDS.items()}


@pytest.mark.parametrize(
    ("name", "check"),
    [
        pytest.param(name, check, id=f"{name}-{check.name}", marks=marks_of(kind, check))
        for name, kind in KINDS.items()
        for check in checks_of(kind)
    ],
)
def test_sound_tasks_of_other_kinds_pass(
    trials: dict[str, tuple[TaskTrial, TaskTrial]], name: str, check: Check[Any]
) -> None:
    short, full = trials[name]
    check(short if check.name in SHORT else full)
