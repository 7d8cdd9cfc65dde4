"""Typed predictions of embeddings; numpy only, so that a deployed model needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from visiongraft.errors import ArtifactError
from visiongraft.html import html_table

SHOWN = 6  # values in a notebook


@dataclass(frozen=True)
class Embedded:
    """The embedding of one image.

    Attributes:
        dimension: Length of the embedding.
        embedding: A unit vector; the inner product of two is their cosine similarity.
    """

    dimension: int
    embedding: tuple[float, ...]

    def _repr_html_(self) -> str:
        columns = [f"e{i}" for i in range(min(SHOWN, self.dimension))]
        caption = f"embedding of {self.dimension} values"
        return html_table(columns, [self.embedding[:SHOWN]], caption)


def predictions(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> list[Embedded]:
    """Convert a batch of decoded outputs to typed predictions.

    Args:
        arrays: ``embedding``, float (N, D).
        metadata: ``dimension``, which is D.

    Returns:
        One prediction per image.

    Raises:
        ArtifactError: The array has another shape.
    """
    embeddings, dimension = arrays["embedding"], int(metadata["dimension"])
    if embeddings.ndim != 2 or embeddings.shape[1] != dimension:
        raise ArtifactError(
            f"the model returned embeddings {embeddings.shape}, not of dimension {dimension}; its "
            "file or folder is damaged"
        )
    return [Embedded(dimension, tuple(row)) for row in embeddings.tolist()]
