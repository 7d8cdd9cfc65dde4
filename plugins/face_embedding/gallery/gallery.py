"""Identify people with a gallery, by a trained model or an exported file; numpy only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.errors import ArtifactError, DataError, OptionError, near_matches
from visiongraft.html import html_table
from visiongraft.plugins.face_embedding.gallery.search import Index, Vectors
from visiongraft.plugins.face_embedding.gallery.verification import (
    Embedder,
    embed,
    embed_one,
    model_fingerprint,
    resolve_threshold,
    task_metadata,
)
from visiongraft.saving.files import read_json, write_bytes, write_json

UNKNOWN = "unknown"
FORMAT = 1
TENSORS, NAMES = "gallery.safetensors", "gallery.json"
SAME_MODEL = 0.999  # minimal cosine of the embeddings of one image by two formats of one model


@dataclass(frozen=True)
class Identification:
    """The person that an image shows.

    Attributes:
        name: The most similar person in the gallery, or ``"unknown"`` below the threshold.
        similarity: Cosine similarity to the most similar image of that person, in -1..1.
        threshold: The lowest similarity at which a person counts as recognized.
        candidates: The most similar people and their similarities, including those below the
            threshold.
    """

    name: str
    similarity: float
    threshold: float
    candidates: tuple[tuple[str, float], ...]

    @property
    def known(self) -> bool:
        """Whether the person was recognized."""
        return self.name != UNKNOWN

    def _repr_html_(self) -> str:
        caption = f"{self.name}: similarity {self.similarity:.3f}, threshold {self.threshold:.3f}"
        return html_table(["person", "similarity"], self.candidates, caption)


class Gallery:
    """Known people and the embeddings of their images.

    Args:
        model: A trained model or an exported file.
        threshold: The lowest similarity at which a person counts as recognized; the threshold of
            the model if ``None``. That one was chosen on pairs, whereas a gallery compares with
            everybody in it: the more people, the higher the threshold should be.

    Attributes:
        threshold: The lowest similarity at which a person counts as recognized.
    """

    def __init__(self, model: Embedder, threshold: float | None = None) -> None:
        self._model = model
        self.threshold = resolve_threshold(model, threshold)
        self._names: list[str] = []
        self._vectors: list[Vectors] = []
        self._index: Index | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._names)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the people, in the order in which they were added."""
        return tuple(dict.fromkeys(self._names))

    def add(self, name: str, images: Any) -> None:
        """Add images of a new or known person.

        Args:
            name: Name of the person.
            images: One or several images, in any form that ``predict`` of the model accepts.

        Raises:
            OptionError: The name is empty or ``"unknown"``.
            DataError: There is no image, or one cannot be read.
        """
        if not isinstance(name, str) or not name.strip() or name == UNKNOWN:
            raise OptionError(f"{name!r} is not a valid name; use any text except {UNKNOWN!r}")
        vectors = embed(self._model, images)
        if not len(vectors):
            raise DataError(f"there are no images of {name!r} to add")
        self.add_embeddings([name] * len(vectors), vectors)

    def add_embeddings(self, names: Iterable[str], vectors: NDArray[Any]) -> None:
        """Add precomputed embeddings.

        Args:
            names: The person that each embedding belongs to.
            vectors: (N, D), unit vectors computed by the same model.

        Raises:
            OptionError: The numbers of names and embeddings differ, or the dimension is wrong.
        """
        names, vectors = list(names), np.asarray(vectors, dtype=np.float32)
        dimension = int(task_metadata(self._model)["dimension"])
        if vectors.shape != (len(names), dimension):
            raise OptionError(
                f"{len(names)} names do not match embeddings {vectors.shape}; the shape must be "
                f"({len(names)}, {dimension})"
            )
        self._names += names
        self._vectors.append(vectors)
        self._index = None

    def remove(self, name: str) -> None:
        """Remove a person and all of their embeddings.

        Args:
            name: Name of the person.

        Raises:
            OptionError: There is no such person.
        """
        if name not in self._names:
            raise OptionError(f"nobody is named {name!r}{near_matches(name, self._names)}")
        kept = [i for i, other in enumerate(self._names) if other != name]
        self._vectors = [self.embeddings[kept]]
        self._names = [self._names[i] for i in kept]
        self._index = None

    @property
    def embeddings(self) -> Vectors:
        """The embeddings, float32 (N, D), in the order in which they were added."""
        if not self._vectors:
            dimension = int(task_metadata(self._model)["dimension"])
            return np.zeros((0, dimension), dtype=np.float32)
        if len(self._vectors) > 1:
            self._vectors = [np.concatenate(self._vectors)]
        return self._vectors[0]

    def identify(self, image: Any, *, candidates: int = 3) -> Identification:
        """Identify the person that an image shows.

        Args:
            image: One image, in any form that ``predict`` of the model accepts.
            candidates: Maximal number of candidates to return.

        Returns:
            The person, or ``"unknown"``, and the candidates.

        Raises:
            DataError: The image cannot be read, or the gallery is empty.
        """
        return self.identify_embeddings(embed_one(self._model, image)[None], candidates=candidates)[
            0
        ]

    def identify_embeddings(
        self, vectors: NDArray[Any], *, candidates: int = 3
    ) -> list[Identification]:
        """Identify the people of many images at once by their embeddings.

        Args:
            vectors: (N, D), unit vectors computed by the same model.
            candidates: Maximal number of candidates to return per embedding.

        Returns:
            One result per embedding.

        Raises:
            DataError: The gallery is empty.
        """
        if not self._names:
            raise DataError("the gallery is empty; add people first")
        if self._index is None:
            self._index = Index(self.embeddings)
            self._most = max(np.unique(self._names, return_counts=True)[1])
        depth = max(candidates, 1) * int(self._most)
        similarities, positions = self._index.nearest(np.asarray(vectors, np.float32), depth)
        return [
            self._identification(values, rows, candidates)
            for values, rows in zip(similarities.tolist(), positions.tolist(), strict=True)
        ]

    def _identification(
        self, values: list[float], rows: list[int], candidates: int
    ) -> Identification:
        best: dict[str, float] = {}
        for value, row in zip(values, rows, strict=True):
            best.setdefault(self._names[row], value)  # the most similar image comes first
        name, similarity = next(iter(best.items()))
        recognized = name if similarity >= self.threshold else UNKNOWN
        return Identification(
            recognized, similarity, self.threshold, tuple(list(best.items())[:candidates])
        )

    def save(self, folder: str | Path) -> None:
        """Write the gallery as ``gallery.safetensors`` and ``gallery.json``, without any image.

        Args:
            folder: Folder to write to.
        """
        from safetensors.numpy import save

        folder = Path(folder)
        tensors = {"embeddings": np.ascontiguousarray(self.embeddings)}
        tensors["fingerprint"] = model_fingerprint(self._model)
        write_bytes(folder / TENSORS, save(tensors))
        write_json(
            folder / NAMES, {"format": FORMAT, "threshold": self.threshold, "names": self._names}
        )

    @classmethod
    def load(cls, folder: str | Path, model: Embedder) -> Gallery:
        """Load a gallery.

        Args:
            folder: A folder that ``save`` wrote.
            model: The model that computed its embeddings, as a trained model or an exported file.

        Returns:
            The gallery.

        Raises:
            ArtifactError: The gallery is damaged, or was made with another model.
        """
        folder = Path(folder)
        values, tensors = read_json(folder / NAMES), _tensors(folder / TENSORS)
        names = values.get("names") if isinstance(values, dict) else None
        if not isinstance(names, list) or values.get("format") != FORMAT:
            raise ArtifactError(f"{folder / NAMES} is not a gallery of format {FORMAT}")
        fingerprint = model_fingerprint(model)
        made_with = tensors["fingerprint"]
        if made_with.shape != fingerprint.shape or made_with @ fingerprint < SAME_MODEL:
            raise ArtifactError(
                f"{folder} was made with another model: embeddings of two models cannot be "
                "compared; add the images again"
            )
        gallery = cls(model, values.get("threshold"))
        if len(names) != len(tensors["embeddings"]):
            raise ArtifactError(
                f"{folder} is damaged: it has {len(names)} names and "
                f"{len(tensors['embeddings'])} embeddings"
            )
        gallery.add_embeddings(names, tensors["embeddings"])
        return gallery


def _tensors(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors: dict[str, NDArray[Any]] = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} is missing or damaged: {error}") from error
    if set(tensors) != {"embeddings", "fingerprint"}:
        raise ArtifactError(f"{path} does not contain a gallery")
    return tensors
