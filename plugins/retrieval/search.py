"""Embeddings of images and texts by one model, and searching images by words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.errors import OptionError
from visiongraft.inputs.samples import InputSamples
from visiongraft.options import check_integer
from visiongraft.plugins.retrieval.captions import encoder_named
from visiongraft.text_encoders import unit_vectors

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


def embed(
    model: TransferModel, images: Any = None, *, text: str | Sequence[str] | None = None
) -> Vectors:
    """Compute embeddings of images or of texts, which are comparable with each other.

    Args:
        model: The model.
        images: One or several images or a folder, in any form that ``predict`` accepts.
        text: One or several texts, instead of images.

    Returns:
        float32 (N, dim), unit vectors.

    Raises:
        OptionError: There are neither images nor texts, or both.
    """
    if (images is None) == (text is None):
        raise OptionError("embed takes images, or text=...")
    if text is None:
        rows = [each.embedding for each in model.predict(images)]
        return np.asarray(rows, np.float32).reshape(len(rows), model.task.metadata()["dimension"])
    texts = [text] if isinstance(text, str) else list(text)
    return unit_vectors(encoder_named(model.task.metadata()["text"]), texts).astype(np.float32)


def search(model: TransferModel, images: Any, query: Any, top: int = 10) -> list[Found]:
    """Find the images that are nearest to a text, or to another image.

    Args:
        model: The model.
        images: A folder, or images in any form that ``predict`` accepts; or their embeddings, float32
            (N, dim), from ``embed``.
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
        vectors, names = embed(model, images), [samples.name(i) for i in range(len(samples))]
    wanted = embed(model, text=query) if isinstance(query, str) else embed(model, query)
    similar = vectors @ wanted[0]
    order = np.argsort(-similar, kind="stable")[:top]
    return [Found(names[i], float(similar[i])) for i in order]


def _are_vectors(images: Any) -> bool:
    return isinstance(images, np.ndarray) and images.ndim == 2 and images.dtype == np.float32
