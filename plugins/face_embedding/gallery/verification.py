"""Embeddings of images, and whether two of them show one identity; numpy only.

All of it works with a trained model and with an exported file alike, for both predict embeddings::

    model = visiongraft.load("runs/faces")            # model.embed(images), model.verify(a, b)
    model = Predictor("faces.onnx")                   # embed(model, images), verify(model, a, b)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from visiongraft.errors import DataError, OptionError
from visiongraft.plugins.face_embedding.gallery.search import Vectors
from visiongraft.plugins.face_embedding.prediction import Embedded


class Embedder(Protocol):
    """A trained model or an exported file of this task."""

    def predict(self, images: Any, /) -> list[Any]:
        """Give one ``Embedded`` per image."""


@dataclass(frozen=True)
class Verification:
    """Whether two images show one identity.

    Attributes:
        same: The decision.
        similarity: Cosine similarity of the embeddings, in -1..1.
        threshold: From which similarity on they count as one identity.
    """

    same: bool
    similarity: float
    threshold: float


def embed(model: Embedder, images: Any) -> Vectors:
    """Compute embeddings.

    Args:
        model: A trained model or an exported file.
        images: What its ``predict`` takes: one image or several.

    Returns:
        float32 (N, D), unit vectors.

    Raises:
        OptionError: The model is of another task.
    """
    found = model.predict(images)
    dimension = int(metadata_of(model)["dimension"])
    if not all(isinstance(one, Embedded) for one in found):
        raise OptionError(f"the model predicts {type(found[0]).__name__}, not embeddings")
    rows = [one.embedding for one in found]
    return np.asarray(rows, dtype=np.float32).reshape(len(rows), dimension)


def verify(model: Embedder, a: Any, b: Any, *, threshold: float | None = None) -> Verification:
    """Say whether two images show one identity.

    Args:
        model: A trained model or an exported file.
        a: One image, as ``predict`` takes it.
        b: Another.
        threshold: From which similarity on; the model's own if ``None``.

    Returns:
        The decision, the similarity and the threshold.

    Raises:
        OptionError: There is no threshold.
        DataError: An image cannot be read, or is none.
    """
    limit = threshold_of(model, threshold)
    first, second = (one_embedding(model, image) for image in (a, b))
    similarity = float(first.astype(np.float64) @ second)
    return Verification(similarity >= limit, similarity, limit)


def metadata_of(model: Any) -> Mapping[str, Any]:
    """Read what the task says of itself, from a model or an exported file.

    Args:
        model: Either.

    Returns:
        What ``FaceEmbedding.metadata`` gave.

    Raises:
        OptionError: It is of another task.
    """
    metadata = getattr(model, "metadata", None)
    values = metadata.get("task_metadata") if isinstance(metadata, Mapping) else None
    if values is None:
        values = model.task.metadata()
    if values.get("similarity") != "cosine" or "dimension" not in values:
        raise OptionError("the model is no face_embedding model")
    found: Mapping[str, Any] = values
    return found


def threshold_of(model: Any, given: float | None) -> float:
    """Give the threshold that was given, or else the model's own.

    Raises:
        OptionError: There is none.
    """
    threshold = metadata_of(model).get("threshold") if given is None else given
    if threshold is None:
        raise OptionError(
            "the model has no threshold: none was chosen on validation pairs; say threshold=..."
        )
    return float(threshold)


def one_embedding(model: Embedder, image: Any) -> Vectors:
    """Compute the embedding of one image, (D,).

    Raises:
        DataError: It is none, or several.
    """
    vectors = embed(model, image)
    if len(vectors) != 1:
        raise DataError(f"it takes one image, not {len(vectors)}")
    one: Vectors = vectors[0]
    return one


def fingerprint_of(model: Any) -> Vectors:
    """Embed an image that is always the same, by which a model is known in any form."""
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
    return one_embedding(model, blocks[rows][:, columns])
