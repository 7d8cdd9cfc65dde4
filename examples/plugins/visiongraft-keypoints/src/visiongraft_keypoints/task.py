"""Find named points: one heat map per point, whose center of mass is the point."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2
from torchvision.tv_tensors import KeyPoints

from visiongraft import Backbone, BackboneInfo, Features, Samples, Splits, Task, errors
from visiongraft.data.splits import stratified_split
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import TaskExamples
from visiongraft_keypoints.data import Target, draw_kites, read_parts
from visiongraft_keypoints.prediction import Located, predictions


@dataclass(frozen=True)
class Keypoints(Task):
    """Find named points of the one object that an image shows, and which of them are not visible.

    Attributes:
        names: Names of the points; taken from the dataset.
        radius: Fraction of an image's longer side within which a point counts as right.
        augment: Whether training images are turned, moved, scaled and recolored.
    """

    name = "keypoints"
    headline = "right"
    resize = "stretch"  # points must not be cut off

    names: tuple[str, ...] = ()
    radius: float = 0.05
    augment: bool = True

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        parts = read_parts(data)
        if (train := parts.get("train")) is None:
            raise errors.DataError(f"{data} holds no train.json")
        if "validation" in parts:
            return Splits(train, parts["validation"])
        return Splits(*map(train.subset, stratified_split([0] * len(train), validation, seed)))

    def read_evaluation(self, data: Any) -> Samples:
        parts = read_parts(data)
        samples = next(parts[p] for p in ("test", "validation", "train") if p in parts)
        if any(t.names != self.names for t in samples.targets):
            raise errors.DataError(f"{data} has other points than {', '.join(self.names)}")
        return samples

    def bind(self, train: Samples) -> Keypoints:
        return replace(self, names=train.target(0).names)

    def train_transform(self, preprocess: PreprocessConfig) -> Augment | None:
        return Augment(preprocess.size) if self.augment else None

    def collate(self, targets: list[Target]) -> dict[str, Tensor]:
        points = [[p or (0.0, 0.0) for p in t.points] for t in targets]
        seen = [[p is not None for p in t.points] for t in targets]
        sizes = torch.tensor([t.size for t in targets])
        return {"points": torch.tensor(points), "seen": torch.tensor(seen).float(), "sizes": sizes}

    def build_head(self, backbone: Backbone) -> HeatMaps:
        if backbone.info.preprocess.resize != "stretch":
            raise errors.OptionError("keypoints need whole images; leave out resize='crop'")
        return HeatMaps(backbone.info, len(self.names))

    def build_loss(self) -> PointLoss:
        return PointLoss()

    def decode(self, outputs: dict[str, Tensor], sizes: Tensor) -> dict[str, Tensor]:
        points = outputs["points"] * sizes.flip(1)[:, None]  # from fractions to pixels
        there = outputs["seen"].float()
        return {"points": points, "found": (there > 0).long(), "scores": there.abs().sigmoid()}

    def build_metrics(self) -> PointMetrics:
        return PointMetrics(self.radius)

    def predictions(self, decoded: Any) -> list[Located]:
        return predictions(decoded, self.metadata())

    def metadata(self) -> dict[str, Any]:
        return {"names": list(self.names)}

    def examples(self) -> TaskExamples:
        return TaskExamples(draw_kites, self.ideal)

    def ideal(self, targets: dict[str, Tensor]) -> dict[str, Any]:
        right = self.decode({**targets, "seen": targets["seen"] - 0.5}, targets["sizes"])
        return {name: value.numpy() for name, value in right.items()}


class Augment:
    """Change an image and move its points along."""

    def __init__(self, size: tuple[int, int]) -> None:
        move = v2.RandomAffine(20, translate=(0.1, 0.1), scale=(0.8, 1.25))
        self.change = v2.Compose([move, v2.ColorJitter(0.3, 0.3, 0.3), v2.Resize(size)])

    def __call__(self, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        (h, w), nowhere = image.shape[-2:], (-9.0, -9.0)
        pixels = torch.tensor([p or nowhere for p in target.points]) * torch.tensor([w, h])
        image, moved = self.change(image, KeyPoints(pixels, canvas_size=(h, w)))
        h, w = image.shape[-2:]
        fractions = (moved / torch.tensor([w, h])).tolist()
        points = tuple((x, y) if 0 <= x <= 1 and 0 <= y <= 1 else None for x, y in fractions)
        return image, Target(target.names, points, (h, w))


class HeatMaps(nn.Module):
    """Add up all maps at the finest stride of 4 or more; one heat map and one logit per point."""

    def __init__(self, info: BackboneInfo, points: int, width: int = 64) -> None:
        super().__init__()
        self.levels = [i for i, s in enumerate(info.strides) if s >= 4] or [-1]
        self.lateral = nn.ModuleList(nn.Conv2d(info.channels[i], width, 1) for i in self.levels)
        self.heat = nn.Conv2d(width, points, 3, padding=1)
        self.seen = nn.Linear(info.embedding_dim, points)

    def forward(self, features: Features) -> dict[str, Tensor]:
        levels = zip(self.lateral, self.levels, strict=True)
        finest, *coarser = (conv(features.maps[i]) for conv, i in levels)
        for coarse in coarser:
            finest = finest + F.interpolate(coarse, size=finest.shape[-2:], mode="bilinear")
        heat = self.heat(finest.relu()).float()
        heat = heat.flatten(2).softmax(2).unflatten(2, heat.shape[-2:])
        y, x = ((torch.arange(n, device=heat.device) + 0.5) / n for n in heat.shape[-2:])
        points = torch.stack([(heat.sum(2) * x).sum(2), (heat.sum(3) * y).sum(2)], 2)
        return {"points": points, "seen": self.seen(features.pooled)}


class PointLoss(nn.Module):
    """Distance of the visible points, and cross-entropy of being visible."""

    def forward(self, outputs: Any, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        far = F.smooth_l1_loss(outputs["points"], targets["points"], reduction="none", beta=0.02)
        visible = F.binary_cross_entropy_with_logits(outputs["seen"].float(), targets["seen"])
        return {"position": 5 * (far.sum(2) * targets["seen"]).mean(), "visible": visible}


class PointMetrics:
    """Fraction of points that are right: within the radius, or correctly predicted as not visible."""

    def __init__(self, radius: float) -> None:
        self.radius, self.right, self.errors = radius, [], []

    def update(self, decoded: Any, targets: dict[str, Tensor]) -> None:
        sizes, points, seen = (np.asarray(targets[n]) for n in ("sizes", "points", "seen"))
        error = np.linalg.norm(decoded["points"] - points * sizes[:, None, ::-1], axis=2)
        error /= sizes.max(1)[:, None]
        found = decoded["found"] > 0
        self.right.extend(np.where(seen > 0, found & (error <= self.radius), ~found).mean(1))
        self.errors.extend(error[seen > 0])

    def compute(self) -> dict[str, float]:
        return {"right": float(np.mean(self.right)), "error": float(np.mean(self.errors or [0.0]))}
