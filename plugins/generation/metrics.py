"""Metrics of generated images: how they are distributed among real ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from visiongraft.plugins.dense.made_image import as_images
from visiongraft.plugins.image_sets.features import ImageSets
from visiongraft.task import Arrays

MEANS = ("elbo", "reconstruction_error")  # of values per image, which PyTorch alone computes


class GenerationMetrics:
    """Compares generated images with real ones by the features of a pretrained network.

    Args:
        features: Name of that network.
        size: Height and width to which it gets images; its own if ``None``.
    """

    def __init__(self, features: str, size: int | None) -> None:
        self.sets = ImageSets(features, size)
        self.count = 0
        self.sums = dict.fromkeys(MEANS, 0.0)
        self.known = True

    def update(self, decoded: Arrays, targets: Any) -> None:
        """Add generated images, and the real ones that they are compared with.

        Args:
            decoded: ``images``, float (N, C, H, W) in 0..1; ``elbo`` and ``reconstruction_error``,
                float (N,), if a network with an encoder was evaluated.
            targets: One uint8 (H, W, 3) for each.
        """
        self.sets.add(as_images(decoded["images"]), [np.asarray(target) for target in targets])
        self.count += len(decoded["images"])
        self.known = self.known and all(name in decoded for name in MEANS)
        for name in MEANS if self.known else ():
            self.sums[name] += float(decoded[name].sum())

    def compute(self) -> dict[str, Any]:
        """Compute ``kid``, ``fid``, ``precision`` and ``recall``, and means where values are known."""
        results = self.sets.compare()
        means = {name: total / self.count for name, total in self.sums.items()}
        return results | (means if self.known else {})
