"""Images of one color each, for classifiers of texts."""

from __future__ import annotations

import numpy as np

CLASSES = ["red thing", "green thing", "blue thing"]


def photo(color: int, generator: np.random.Generator, side: int = 40) -> np.ndarray:
    image = generator.integers(0, 90, (side, side, 3), dtype=np.uint8)
    image[..., color] += 150
    return image
