"""Pairs of images as samples, and validation splits of datasets that have none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.decode import printable
from visiongraft.data.images import image_array
from visiongraft.data.samples import EvaluationSplit, Splits, WrappedSamples
from visiongraft.data.splits import (
    as_pair,
    evaluation_split,
    join_pair,
    name_evaluated,
    split_at_random,
    training_and_validation,
)
from visiongraft.errors import DataError
from visiongraft.plugins.translation.reading import read_pairs


@dataclass(frozen=True)
class ImagePairs(WrappedSamples):
    """Images whose targets are images of the same size, decoded lazily.

    Attributes:
        base: Images whose targets are anything that ``image_array`` accepts.
    """

    def target(self, index: int) -> NDArray[np.uint8]:
        """Decode the target, uint8 (H, W, 3).

        Raises:
            DataError: It cannot be decoded.
        """
        target = image_array(self.base.target(index), f"target of {self.base.name(index)}")
        return np.require(target, requirements=["C", "W"])

    def problem(self, index: int, height: int, width: int) -> str:
        """Describe a target that cannot be decoded, or of another size than its image."""
        return self.checked_target(index, height, width)[0]

    def checked_target(
        self, index: int, height: int, width: int
    ) -> tuple[str, Callable[[], NDArray[np.uint8] | None]]:
        """Return problem and target of a sample; the target is decoded once."""
        try:
            target = self.target(index)
        except DataError as error:
            return str(error), lambda: None
        problem = ""
        if target.shape[:2] != (height, width):
            raw = self.base.target(index)
            name = (
                printable(raw) if isinstance(raw, (str, Path)) else f"target of {self.name(index)}"
            )
            size = f"{target.shape[0]}x{target.shape[1]}"
            problem = f"{name}: has {size} pixels, but its image has {height}x{width}"
        return problem, lambda: target

    def subset(self, indices: Sequence[int]) -> ImagePairs:
        """Return some of the pairs, in the given order."""
        return ImagePairs(self.base.subset(indices))


def read_splits(data: Any, *, reverse: bool, validation: float = 0.2, seed: int = 0) -> Splits:
    """Read pairs to train on.

    Args:
        data: See ``reading.read_pairs``, or a pair (training, validation) of these.
        reverse: Whether the second image of a pair is the input.
        validation: Fraction of the training images to hold out if the dataset has no validation
            split, in (0, 1).
        seed: Seed of that random split.

    Returns:
        Training and validation samples.

    Raises:
        DataError: There are no pairs to train on or to hold out.
    """
    splits = _read(data, reverse)
    if "train" not in splits:
        raise DataError(f"the dataset has no training images, only {' and '.join(splits)}")
    train, validation_set, origin = training_and_validation(
        splits,
        lambda all_of: split_at_random(len(all_of), validation, seed),
        f"{validation:.0%} of the training images, seed {seed}",
    )
    facts: dict[str, Any] = {"validation from": origin}
    if "test" in splits:
        facts["test images, not used"] = len(splits["test"])
    return Splits(train, validation_set, facts)


def read_evaluation(data: Any, *, reverse: bool) -> EvaluationSplit:
    """Read pairs to evaluate on.

    Args:
        data: See ``read_splits``. Uses the test split if there is one, otherwise the validation
            split, otherwise all pairs.
        reverse: Whether the second image of a pair is the input.

    Raises:
        DataError: There are no pairs.
    """
    splits = _read(data, reverse)
    split = "validation" if as_pair(data) else evaluation_split(splits)
    return EvaluationSplit(splits[split], name_evaluated(split))


def _read(data: Any, reverse: bool) -> dict[str, ImagePairs]:
    pair = as_pair(data)
    if pair is None:
        return {split: ImagePairs(found) for split, found in read_pairs(data, reverse).items()}
    return join_pair(*(_read(each, reverse) for each in pair))
