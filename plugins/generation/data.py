"""Images to learn from, and the latents that take their place in evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.decode import printable
from visiongraft.data.listing import SPLIT_WORDS, is_image, list_images, subfolders
from visiongraft.data.samples import EvaluationSplit, Samples, Splits, WrappedSamples
from visiongraft.data.splits import (
    as_pair,
    evaluation_split,
    join_pair,
    name_evaluated,
    stratified_split,
    training_and_validation,
)
from visiongraft.data.unlabeled import unlabeled_samples
from visiongraft.errors import DataError
from visiongraft.inputs import Latents


@dataclass(frozen=True)
class DrawnSamples(WrappedSamples):
    """A latent in place of each image, which is its target: what is generated is compared with them.

    Attributes:
        base: The images.
        latents: What latents are.
    """

    latents: Latents

    def name(self, index: int) -> str:
        """Return which latent it is."""
        return f"latent {index}"

    def target(self, index: int) -> NDArray[Any]:
        """Decode the image, uint8 (H, W, 3)."""
        return self.base.load(index)

    def load(self, index: int, channels: int = 3) -> NDArray[Any]:
        """Draw the latent; its seed is its position."""
        return np.asarray(self.latents.draw(1, seed=index)[0])

    def content(self, index: int) -> bytes | None:
        """Return nothing: a latent has no file."""
        return None

    def problem(self, index: int, height: int, width: int) -> str:
        """Return why the image cannot be decoded, if it cannot."""
        try:
            self.base.load(index)
        except DataError as error:
            return str(error)
        return ""


def read_splits(data: Any, latents: Latents, validation: float, seed: int) -> Splits:
    """Find images to train on, and others to compare what is generated with.

    Args:
        data: A folder of images at any depth, or one with folders ``train`` and ``val``; image files;
            a map-style dataset of images or (image, anything); or a pair of these.
        latents: What a generator makes images of.
        validation: Fraction of the images to hold out if there is no validation split, in (0, 1).
        seed: Seed of that split.

    Returns:
        Images, and ``DrawnSamples``.

    Raises:
        DataError: There are fewer than two images, or none to train on.
    """
    found = _find(data)
    if "train" not in found:
        raise DataError(f"the dataset has no training images, only {' and '.join(found)}")
    if len(found) == 1 and len(found["train"]) < 2:
        raise DataError("there is one image only, so none can be held out for validation; add more")
    train, validation_set, origin = training_and_validation(
        found,
        lambda images: stratified_split([0] * len(images), validation, seed),
        f"{validation:.0%} of the training images, seed {seed}",
    )
    facts = {"validation from": origin}
    return Splits(train, DrawnSamples(validation_set, latents), facts)


def read_evaluation(data: Any, latents: Latents) -> EvaluationSplit:
    """Find images to compare what is generated with: of the test split, or the validation split.

    Args:
        data: As for ``read_splits``.
        latents: What a generator makes images of.

    Raises:
        DataError: There are no images.
    """
    found = _find(data)
    split = evaluation_split(found)
    return EvaluationSplit(DrawnSamples(found[split], latents), name_evaluated(split))


def _find(data: Any) -> Mapping[str, Samples]:
    """Find images by split; a dataset without splits is all training."""
    pair = as_pair(data)
    if pair is not None:
        return join_pair(_find(pair[0]), _find(pair[1]))
    if isinstance(data, str | Path):
        path = Path(data)
        if not path.exists():
            raise DataError(f"{printable(path)} does not exist; pass a folder of images")
        if path.is_file() and not is_image(path):
            raise DataError(f"{printable(path)} is not an image; pass a folder of images")
        if path.is_dir():
            folders = _split_folders(path)
            return {split: unlabeled_samples(f) for split, f in folders.items()}
    return {"train": unlabeled_samples(data)}


def _split_folders(root: Path) -> dict[str, Path]:
    by_name = {folder.name.lower(): folder for folder in subfolders(root) if list_images(folder)}
    found = {
        split: by_name[word]
        for split, words in SPLIT_WORDS.items()
        for word in words
        if word in by_name
    }
    return found if "train" in found else {"train": root}
