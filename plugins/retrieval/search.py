"""Searching images by words, or by another image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.inputs.samples import InputSamples
from visiongraft.options import check_integer

if TYPE_CHECKING:
    from visiongraft.model import TransferModel

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    """An image that was found.

    Attributes:
        image: Its path, or its position among images in memory.
        similarity: The cosine with the query.
    """

    image: str
    similarity: float


def search(model: TransferModel, images: Any, query: Any, top: int = 10) -> list[Found]:
    """Find the images that are nearest to a text, or to another image.

    Args:
        model: The model.
        images: A folder, or images in any form that ``predict`` accepts; or their embeddings, float32
            (N, dim), from ``model.embed``.
        query: A text; or one image in memory, as an array or a PIL image.
        top: The most images to return.

    Returns:
        Images, the most similar first.

    Raises:
        DataError: An image cannot be read.
    """
    check_integer("top", top, least=1)
    if _are_vectors(images):
        vectors, names = images, [str(i) for i in range(len(images))]
    else:
        samples = InputSamples.of(images, model.task.inputs)
        vectors, names = model.embed(images), [samples.name(i) for i in range(len(samples))]
    wanted = model.embed(text=query) if isinstance(query, str) else model.embed(query)
    similar = vectors @ wanted[0]
    order = np.argsort(-similar, kind="stable")[:top]
    return [Found(names[i], float(similar[i])) for i in order]


def _are_vectors(images: Any) -> bool:
    return isinstance(images, np.ndarray) and images.ndim == 2 and images.dtype == np.float32
