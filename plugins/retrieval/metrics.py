"""How well images find their captions, and captions their images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from visiongraft.errors import DataError
from visiongraft.task import Arrays

RANKS = (1, 5, 10)
AT_ONCE = 1024  # rows of similarities

Floats = NDArray[np.float32]
Booleans = NDArray[np.bool_]


class RetrievalMetrics:
    """Recall among the first 1, 5 and 10 results, in both directions, and their mean.

    An image finds any of its captions among all different captions; a caption finds any of its images
    among all images. Of equally similar candidates, wrong ones come first.
    """

    def __init__(self) -> None:
        self._images: list[Floats] = []
        self._vectors: dict[int, Floats] = {}
        self._captions: list[list[int]] = []

    def update(self, decoded: Arrays, targets: dict[str, Tensor]) -> None:
        """Add one batch.

        Args:
            decoded: ``embedding``, float32 (N, dim), of length 1; and, of a network that trains its text
                encoder, ``captions``, float32 (N, most, dim), the vectors of each image's captions, in order.
            targets: As for the loss; their vectors count if there are no ``captions``.
        """
        ids, image = targets["ids"].tolist(), targets["image"].tolist()
        self._images.append(np.array(decoded["embedding"], np.float32))
        own: list[list[int]] = [[] for _ in decoded["embedding"]]
        computed = decoded.get("captions")
        for caption, position, vector in zip(ids, image, targets["vectors"].numpy(), strict=True):
            if computed is not None:
                vector = computed[position, len(own[position])]
            own[position].append(caption)
            self._vectors[caption] = vector
        self._captions += own

    def compute(self) -> dict[str, Any]:
        """Compute the metrics of all batches so far.

        Raises:
            DataError: There were no batches.
        """
        if not self._images:
            raise DataError("there are no images to evaluate")
        if any(np.isnan(vector).any() for vector in self._vectors.values()):
            return {"mean_recall": None}  # of a trained text encoder that is not at hand
        images = np.concatenate(self._images)
        columns = {caption: i for i, caption in enumerate(sorted(self._vectors))}
        captions = np.stack([self._vectors[caption] for caption in columns])
        right = np.zeros((len(images), len(captions)), dtype=bool)
        for row, own in enumerate(self._captions):
            right[row, [columns[caption] for caption in own]] = True
        to_text, to_image = _ranks(images, captions, right), _ranks(captions, images, right.T)
        found: dict[str, Any] = {}
        for name, ranks in (("image_to_text", to_text), ("text_to_image", to_image)):
            found |= {f"{name}_recall_at_{k}": float((ranks < k).mean()) for k in RANKS}
        mean = float(np.mean(list(found.values())))
        medians = {
            "image_to_text_median_rank": float(np.median(to_text)) + 1,
            "text_to_image_median_rank": float(np.median(to_image)) + 1,
        }
        return {"mean_recall": mean, **found, **medians, "different_captions": len(captions)}


def _ranks(queries: Floats, candidates: Floats, right: Booleans) -> NDArray[np.int64]:
    """Return how many wrong candidates are at least as similar as the best right one."""
    found = []
    for start in range(0, len(queries), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        similar, own = queries[part] @ candidates.T, right[part]
        best = np.where(own, similar, -np.inf).max(1, keepdims=True)
        found.append(((similar >= best) & ~own).sum(1))
    return np.concatenate(found)
