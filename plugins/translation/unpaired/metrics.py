"""Metrics without pairs: how the images that were made are distributed among those of the other kind."""

from __future__ import annotations

from typing import Any

import numpy as np

from visiongraft.data.digests import digest_of
from visiongraft.errors import DataError
from visiongraft.plugins.dense.made_image import as_images
from visiongraft.plugins.image_sets.features import ImageSets
from visiongraft.task import Arrays


class UnpairedMetrics:
    """Compares images that were made with those of the other kind, by the features of a network.

    Args:
        features: Name of that network.
        size: Height and width to which it gets images; its own if ``None``.
    """

    def __init__(self, features: str, size: int | None) -> None:
        self.sets = ImageSets(features, size)
        self.known: set[str] = set()

    def update(self, decoded: Arrays, targets: Any) -> None:
        """Add one batch.

        Args:
            decoded: ``image``, float (N, 3, H, W) in 0..1.
            targets: For each of them images of the other kind, uint8 (H, W, 3). An image that is a
                target of several inputs counts once.
        """
        real = []
        for target in (np.asarray(each) for some in targets for each in some):
            key = digest_of(target)
            if key not in self.known:
                self.known.add(key)
                real.append(target)
        self.sets.add(as_images(decoded["image"]), real)

    def compute(self) -> dict[str, Any]:
        """Compute ``kid``, ``fid``, ``precision`` and ``recall``.

        Raises:
            DataError: There were no images.
        """
        if not self.known:
            raise DataError("there are no images to evaluate")
        return dict(self.sets.compare())
