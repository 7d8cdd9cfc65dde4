"""The target of a sample, and samples with such targets: images of known identities."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from visiongraft.data.samples import TargetSamples

OUTSIDE = -1  # label of an identity that is not in training


@dataclass(frozen=True)
class Face:
    """The identity that an image shows.

    Attributes:
        identity: Name of the identity.
        index: Position of the image in its dataset, which orders images in metrics.
        pairs: Number and fold of each listed pair that contains the image.
        label: Class id of the identity in training; -1 outside of training. It is not a property
            of the image, so that it is ignored when two targets are compared.
    """

    identity: str
    index: int = field(repr=False)
    pairs: tuple[tuple[int, int], ...] = field(default=(), repr=False)
    label: int = field(default=OUTSIDE, repr=False, compare=False)


@dataclass(frozen=True)
class FaceSamples(TargetSamples):
    """Images with the identities that they show.

    Attributes:
        base: The images.
        targets: One target per image.
        identities: Number of classes of the labels, including those without images in a subset.
        aligned: Whether the images are aligned by landmarks.
    """

    targets: tuple[Face, ...]
    identities: int = 0
    aligned: bool = False

    def with_labels(self) -> FaceSamples:
        """Assign a class id to each identity, in the order of the names."""
        names = sorted({face.identity for face in self.targets})
        labels = {name: label for label, name in enumerate(names)}
        targets = tuple(replace(face, label=labels[face.identity]) for face in self.targets)
        return replace(self, targets=targets, identities=len(names))

    def subject(self, index: int) -> str:
        """Return the identity, by which evaluation recognizes people of the training set."""
        return self.targets[index].identity

    def counts(self) -> dict[str, int]:
        """Count the images of each identity."""
        found: dict[str, int] = {}
        for face in self.targets:
            found[face.identity] = found.get(face.identity, 0) + 1
        return found
