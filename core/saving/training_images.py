"""Which images a model was trained on, as short digests beside it, to notice them in an evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from visiongraft.data.digests import digest_of
from visiongraft.data.findings import are_files
from visiongraft.data.samples import Samples
from visiongraft.errors import ArtifactError
from visiongraft.saving.tensor_files import read_tensors, write_tensors

FILE = "training-images.safetensors"
FORMAT = 1

Digests = NDArray[np.int64]  # the first 8 bytes of each digest


@dataclass(frozen=True)
class TrainingImages:
    """Digests of the images that a model was trained on, 8 bytes each; no names and no pixels.

    Attributes:
        images: int64 (n,), ascending: of each image's file, or its pixels if there is no file.
        subjects: int64 (m,), ascending: of the names of ``Samples.subject``.
        files: Whether ``images`` are of files.
    """

    images: Digests
    subjects: Digests
    files: bool

    @classmethod
    def of(cls, samples: Samples, images: Iterable[str]) -> TrainingImages:
        """Collect the digests of training samples.

        Args:
            samples: The training samples.
            images: Hexadecimal digests of their images.
        """
        subjects = {name for i in range(len(samples)) if (name := samples.subject(i)) is not None}
        return cls(np.unique(_short(images)), np.unique(_short_names(subjects)), are_files(samples))

    def joined(self, other: TrainingImages) -> TrainingImages:
        """Add the digests of another training set; images of another form than these are left out."""
        images = np.union1d(self.images, other.images) if other.files == self.files else self.images
        return TrainingImages(images, np.union1d(self.subjects, other.subjects), self.files)

    def write(self, folder: Path) -> None:
        """Write the file into the folder of a saved model."""
        tensors = {
            "images": torch.from_numpy(self.images),
            "subjects": torch.from_numpy(self.subjects),
        }
        write_tensors(folder / FILE, tensors, {"format": FORMAT, "files": self.files})

    @classmethod
    def read(cls, folder: Path) -> TrainingImages | None:
        """Read what ``write`` wrote.

        Args:
            folder: A saved model.

        Returns:
            The digests; ``None`` if there is no such file.

        Raises:
            ArtifactError: The file is damaged or of another version.
        """
        path = folder / FILE
        if not path.exists():
            return None
        remedy = "remove it to do without knowing which images were in training"
        try:
            tensors, values = read_tensors(path)
        except ArtifactError as error:
            raise ArtifactError(f"{error}; {remedy}") from error
        found = [tensors.get(name) for name in ("images", "subjects")]
        images, subjects = (
            each.numpy() if each is not None and _is_list(each) else None for each in found
        )
        files = values.get("files")
        if values.get("format") != FORMAT or not isinstance(files, bool):
            raise ArtifactError(f"{path} has an unknown format; {remedy}")
        if images is None or subjects is None:
            raise ArtifactError(f"{path} does not hold digests; {remedy}")
        return cls(images, subjects, files)

    def seen_images(self, samples: Samples, images: Sequence[str]) -> list[int] | None:
        """Find images that were in training.

        Args:
            samples: Samples.
            images: Hexadecimal digests of their images.

        Returns:
            Positions of the samples; ``None`` if images in files and in memory cannot be compared.
        """
        if are_files(samples) != self.files:
            return None
        found: list[int] = np.flatnonzero(np.isin(_short(images), self.images)).tolist()
        return found

    def seen_subjects(self, names: Sequence[str]) -> list[str]:
        """Return the names of subjects that were in training."""
        seen = np.isin(_short_names(names), self.subjects)
        return [name for name, known in zip(names, seen, strict=True) if known]


def write_training_images(folder: Path, training: TrainingImages | None) -> None:
    """Write what is known into the folder of a model, or remove what is there of another model."""
    if training is not None:
        training.write(folder)
    else:
        (folder / FILE).unlink(missing_ok=True)


def _short(digests: Iterable[str]) -> Digests:
    """Shorten hexadecimal digests to 8 bytes; that two of different images are equal is unlikely."""
    return np.array([int(d[:16], 16) for d in digests], np.uint64).view(np.int64)


def _short_names(names: Iterable[str]) -> Digests:
    return _short(digest_of(name) for name in names)


def _is_list(tensor: torch.Tensor) -> bool:
    return tensor.dtype == torch.int64 and tensor.ndim == 1
