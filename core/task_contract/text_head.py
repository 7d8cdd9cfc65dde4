"""What a task needs to recognize classes by the vectors of texts about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TextHead:
    """A classifier that compares embeddings of images with vectors of texts.

    Logits are ``weight @ unit(projection @ embedding + offset) + bias``, where ``unit`` scales to length 1.

    Attributes:
        weight: float64 (C, dim), one row for each class: the vector of its texts times the scale of
            the logits.
        bias: float64 (C,).
        projection: float64 (dim, embedding_dim), from the embedding of an image to the space of the texts;
            ``None`` if the embedding is in it.
        offset: float64 (dim,), added to the projected embedding.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    projection: NDArray[np.float64] | None = None
    offset: NDArray[np.float64] | None = None
