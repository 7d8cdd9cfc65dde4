"""The network that compares images, by its features, and what it says of two sets of them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visiongraft.errors import BackboneError, WeightsError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.plugins.image_sets.distances import (
    frechet_distance,
    kernel_distance,
    precision_and_recall,
)
from visiongraft.preprocess import Preprocess

BATCH = 32
NETWORK = "bundled/efficientnet_lite0"  # a task's default feature network


class ImageSets:
    """Compares images that a model made with real ones, batch by batch.

    Args:
        features: Name of the feature network, a backbone with published weights.
        size: Height and width to which it gets images; its own if ``None``.
    """

    def __init__(self, features: str, size: int | None) -> None:
        self.embed = feature_network(features, size)
        self.made: list[NDArray[np.float64]] = []
        self.real: list[NDArray[np.float64]] = []

    def add(self, made: Iterable[NDArray[np.uint8]], real: Iterable[NDArray[np.uint8]]) -> None:
        """Add images to both sets.

        Args:
            made: uint8 (H, W, 1 or 3), of any sizes.
            real: Likewise; as many or not.
        """
        self.made.append(self.embed(made))
        self.real.append(self.embed(real))

    def compare(self) -> dict[str, float]:
        """Compute ``kid``, ``fid``, ``precision`` and ``recall``."""
        real, made = np.concatenate(self.real), np.concatenate(self.made)
        precision, recall = precision_and_recall(real, made)
        return {
            "kid": kernel_distance(real, made),
            "fid": frechet_distance(real, made),
            "precision": precision,
            "recall": recall,
        }


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
        if not prepared:
            return np.empty((0, self.backbone.info.embedding_dim))
        with torch.no_grad():
            found = [
                self.backbone(torch.cat(prepared[i : i + BATCH])).pooled
                for i in range(0, len(prepared), BATCH)
            ]
        features = torch.cat(found).double()
        return (features / features.square().mean(1, keepdim=True).sqrt().clamp(min=1e-9)).numpy()

    def _prepared(self, image: NDArray[np.uint8]) -> Tensor:
        colors = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
        writable = np.require(colors, requirements=["C", "W"])
        prepared: Tensor = self.preprocess(torch.from_numpy(writable)[None])
        return prepared


feature_network = cache(FeatureNetwork)  # loading one takes longer than using it


def check_features(name: str, size: int | None) -> None:
    """Check before a run that the network of its metrics can be loaded.

    Args:
        name: The option ``features`` of a task.
        size: Its option ``features_size``.

    Raises:
        BackboneError: There is no such backbone, or it takes no images of that size.
        WeightsError: Its weights cannot be loaded.
    """
    try:
        feature_network(name, size)
    except (BackboneError, WeightsError) as error:
        raise type(error)(f"features={name!r}: {error}") from error
