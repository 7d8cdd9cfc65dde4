"""Metrics of generated images: how they are distributed among real ones."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visiongraft.lookup.backbones import load_backbone
from visiongraft.plugins.dense.made_image import as_images
from visiongraft.plugins.generation.distances import (
    frechet_distance,
    kernel_distance,
    precision_and_recall,
)
from visiongraft.preprocess import Preprocess
from visiongraft.task import Arrays

BATCH = 32
MEANS = ("elbo", "reconstruction_error")  # of values per image, which PyTorch alone computes


class GenerationMetrics:
    """Compares generated images with real ones by the features of a pretrained network.

    Args:
        features: Name of that network.
        size: Height and width to which it gets images; its own if ``None``.
    """

    def __init__(self, features: str, size: int | None) -> None:
        self.embed = feature_network(features, size)
        self.drawn: list[NDArray[np.float64]] = []
        self.real: list[NDArray[np.float64]] = []
        self.sums = dict.fromkeys(MEANS, 0.0)
        self.known = True

    def update(self, decoded: Arrays, targets: Any) -> None:
        """Add generated images, and the real ones that they are compared with.

        Args:
            decoded: ``images``, float (N, C, H, W) in 0..1; ``elbo`` and ``reconstruction_error``,
                float (N,), if a network with an encoder was evaluated.
            targets: One uint8 (H, W, 3) for each.
        """
        self.drawn.append(self.embed(as_images(decoded["images"])))
        self.real.append(self.embed([np.asarray(target) for target in targets]))
        self.known = self.known and all(name in decoded for name in MEANS)
        for name in MEANS if self.known else ():
            self.sums[name] += float(decoded[name].sum())

    def compute(self) -> dict[str, Any]:
        """Compute ``kid``, ``fid``, ``precision`` and ``recall``, and means where values are known."""
        real, drawn = np.concatenate(self.real), np.concatenate(self.drawn)
        precision, recall = precision_and_recall(real, drawn)
        results = {
            "kid": kernel_distance(real, drawn),
            "fid": frechet_distance(real, drawn),
            "precision": precision,
            "recall": recall,
        }
        means = {name: total / len(drawn) for name, total in self.sums.items()}
        return results | (means if self.known else {})


class FeatureNetwork:
    """Computes the pooled features of images, scaled to a mean square of 1.

    Features of networks differ in size by orders of magnitude, and those of strange images from others,
    which a cubic kernel would see before all else.

    Args:
        name: Name of a backbone with published weights.
        size: Height and width of its input; its own if ``None``.
    """

    def __init__(self, name: str, size: int | None) -> None:
        self.backbone = load_backbone(name, size=size).eval().requires_grad_(False)
        self.preprocess = Preprocess(self.backbone.info.preprocess)

    def __call__(self, images: Iterable[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Compute features.

        Args:
            images: uint8 (H, W, 1 or 3), of any sizes.

        Returns:
            float64 (N, D).
        """
        prepared = [self._prepared(image) for image in images]
        with torch.no_grad():
            found = [
                self.backbone(torch.cat(prepared[i : i + BATCH])).pooled
                for i in range(0, len(prepared), BATCH)
            ]
        features = torch.cat(found).double()
        return (features / features.square().mean(1, keepdim=True).sqrt().clamp(min=1e-9)).numpy()

    def _prepared(self, image: NDArray[np.uint8]) -> Tensor:
        colors = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
        prepared: Tensor = self.preprocess(torch.from_numpy(np.ascontiguousarray(colors))[None])
        return prepared


feature_network = cache(FeatureNetwork)  # loading one takes longer than using it
