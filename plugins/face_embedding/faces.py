"""Images of known identities: what a sample's target is, and sets of such samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from visiongraft.data.samples import WrappedSamples

OUTSIDE = -1  # label of an identity that is not trained on


@dataclass(frozen=True)
class Face:
    """Who an image shows.

    Attributes:
        identity: Name of the identity.
        number: Position of the image in its dataset, which orders images in metrics.
        pairs: Number and fold of each pair that the image is part of, where the data list pairs.
        label: Class of the identity in training, from 0; -1 outside of training. It is no part of
            what the image shows, so it does not count when two targets are compared.
    """

    identity: str
    number: int = field(repr=False)
    pairs: tuple[tuple[int, int], ...] = field(default=(), repr=False)
    label: int = field(default=OUTSIDE, repr=False, compare=False)


@dataclass(frozen=True)
class FaceSamples(WrappedSamples):
    """Images with the identities they show.

    Attributes:
        base: The images.
        faces: One target per image.
        identities: Number of classes that the labels count, also those whose images are gone.
        aligned: Whether the images are aligned by landmarks.
    """

    faces: tuple[Face, ...]
    identities: int = 0
    aligned: bool = False

    def target(self, index: int) -> Face:
        return self.faces[index]

    def subset(self, indices: Sequence[int]) -> FaceSamples:
        """Take some samples, in the given order; labels keep their meaning."""
        faces = tuple(self.faces[i] for i in indices)
        return replace(self, base=self.base.subset(indices), faces=faces)

    def numbered(self) -> FaceSamples:
        """Give each identity a class, in the order of the names."""
        names = sorted({face.identity for face in self.faces})
        labels = {name: label for label, name in enumerate(names)}
        faces = tuple(replace(face, label=labels[face.identity]) for face in self.faces)
        return replace(self, faces=faces, identities=len(names))

    def counts(self) -> dict[str, int]:
        """Count the images of each identity."""
        found: dict[str, int] = {}
        for face in self.faces:
            found[face.identity] = found.get(face.identity, 0) + 1
        return found
