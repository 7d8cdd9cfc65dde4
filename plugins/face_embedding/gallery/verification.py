"""Embed images, and verify whether two images show the same identity; numpy only.

The functions accept a trained model or an exported file, since both predict embeddings::

    model = visiongraft.load("runs/faces")            # model.embed(images), model.verify(a, b)
    model = Predictor("faces.onnx")                   # embed(model, images), verify(model, a, b)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from visiongraft.errors import DataError, OptionError
from visiongraft.html import html_table
from visiongraft.plugins.face_embedding.gallery.search import Vectors
from visiongraft.plugins.whole_images.embedded import Embedded


class Embedder(Protocol):
    """A trained model or an exported file of this task."""

    def predict(self, images: Any, /) -> list[Any]:
        """Return one ``Embedded`` per image."""


@dataclass(frozen=True)
class Verification:
    """Whether two images show the same identity.

    Attributes:
        same: The decision.
        similarity: Cosine similarity of the embeddings, in -1..1.
        threshold: The lowest similarity that counts as the same identity.
    """

    same: bool
    similarity: float
    threshold: float

    def _repr_html_(self) -> str:
        words = "the same identity" if self.same else "different identities"
        return html_table(["similarity", "threshold"], [(self.similarity, self.threshold)], words)


def embed(model: Embedder, images: Any) -> Vectors:
    """Compute embeddings.

    Args:
        model: A trained model or an exported file.
        images: One or several images, in any form that ``predict`` of the model accepts.

    Returns:
        float32 (N, D), unit vectors.

    Raises:
        OptionError: The model is of another task.
    """
    found = model.predict(images)
    dimension = int(task_metadata(model)["dimension"])
    if not all(isinstance(each, Embedded) for each in found):
        raise OptionError(f"the model predicts {type(found[0]).__name__}, not embeddings")
    rows = [each.embedding for each in found]
    return np.asarray(rows, dtype=np.float32).reshape(len(rows), dimension)


def verify(model: Embedder, a: Any, b: Any, *, threshold: float | None = None) -> Verification:
    """Check whether two images show the same identity.

    Args:
        model: A trained model or an exported file.
        a: One image, in any form that ``predict`` of the model accepts.
        b: The other image.
        threshold: The lowest similarity that counts as the same identity; the threshold of the
            model if ``None``.

    Returns:
        The decision, the similarity and the threshold.

    Raises:
        OptionError: There is no threshold.
        DataError: An image cannot be read.
    """
    limit = resolve_threshold(model, threshold)
    first, second = (embed_one(model, image) for image in (a, b))
    similarity = float(first.astype(np.float64) @ second)
    return Verification(similarity >= limit, similarity, limit)


def task_metadata(model: Any) -> Mapping[str, Any]:
    """Return the task's metadata of a model or an exported file.

    Args:
        model: A trained model or an exported file.

    Returns:
        The result of ``FaceEmbedding.metadata``.

    Raises:
        OptionError: The model is of another task.
    """
    metadata = getattr(model, "metadata", None)
    values = metadata.get("task_metadata") if isinstance(metadata, Mapping) else None
    if values is None:
        values = model.task.metadata()
    if values.get("similarity") != "cosine" or "dimension" not in values:
        raise OptionError("the model is not a face_embedding model")
    found: Mapping[str, Any] = values
    return found


def resolve_threshold(model: Any, threshold: float | None) -> float:
    """Return the given threshold, or the threshold of the model if it is ``None``.

    Raises:
        OptionError: There is no threshold.
    """
    if threshold is None:
        threshold = task_metadata(model).get("threshold")
    if threshold is None:
        raise OptionError(
            "the model has no threshold: its validation images show too few people to choose one "
            "for its false accept rate; pass threshold=..."
        )
    return float(threshold)


def embed_one(model: Embedder, image: Any) -> Vectors:
    """Compute the embedding of one image, (D,).

    Raises:
        DataError: There is no image, or several.
    """
    vectors = embed(model, image)
    if len(vectors) != 1:
        raise DataError(f"pass one image, not {len(vectors)}")
    vector: Vectors = vectors[0]
    return vector


def model_fingerprint(model: Any) -> Vectors:
    """Embed a fixed image, which identifies the model in any of its formats."""
    channels, height, width = 3, 112, 112
    metadata = getattr(model, "metadata", None)
    if isinstance(metadata, Mapping):
        entry = metadata["input"]
        channels = entry["channels"]
        height, width = entry["height"] or height, entry["width"] or width
    elif hasattr(model, "backbone_info"):
        channels = model.backbone_info.in_channels
    random = np.random.Generator(np.random.PCG64(0))
    blocks = random.integers(0, 256, (14, 14, channels), dtype=np.uint8)
    rows, columns = (np.arange(side) * 14 // side for side in (height, width))
    return embed_one(model, blocks[rows][:, columns])
