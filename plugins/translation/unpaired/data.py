"""Images of two kinds as samples: those of one kind are inputs, those of the other are targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.samples import EvaluationSplit, Samples, Splits, WrappedSamples
from visiongraft.data.splits import (
    as_pair,
    evaluation_split,
    join_pair,
    name_evaluated,
    split_at_random,
)
from visiongraft.data.unlabeled import unlabeled_samples
from visiongraft.errors import DataError
from visiongraft.plugins.translation.reading import find_unpaired

KINDS = ("a", "b")
_FORM = 'a folder with folders A and B, or {"a": images, "b": images}'
Image = NDArray[np.uint8]
Kinds = tuple[Samples, Samples]  # inputs, and images of the other kind


@dataclass(frozen=True)
class UnpairedImages(WrappedSamples):
    """Images whose targets are images of the other kind that belong to none of them in particular.

    Each image of the other kind is a target of one sample; if there are fewer of them than inputs, some
    are targets of several.

    Attributes:
        base: The inputs.
        others: Images of the other kind.
        shares: Positions of the targets of each input, at least one.
    """

    others: Samples
    shares: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, inputs: Samples, others: Samples) -> UnpairedImages:
        """Share images of the other kind out among inputs, in turn."""
        count, wanted = len(inputs), len(others)
        shares = [tuple(range(i, wanted, count)) or (i % wanted,) for i in range(count)]
        return cls(inputs, others, tuple(shares))

    def target(self, index: int) -> tuple[Image, ...]:
        """Decode the targets, uint8 (H, W, 3) each."""
        found = (self.others.load(position) for position in self.shares[index])
        return tuple(np.require(image, requirements=["C", "W"]) for image in found)

    def problem(self, index: int, height: int, width: int) -> str:
        """Describe a target that cannot be decoded."""
        return self.checked_target(index, height, width)[0]

    def checked_target(
        self, index: int, height: int, width: int
    ) -> tuple[str, Callable[[], tuple[Image, ...] | None]]:
        """Return problem and targets of a sample; targets are decoded once."""
        try:
            target = self.target(index)
        except DataError as error:
            return str(error), lambda: None
        return "", lambda: target

    def subset(self, indices: Sequence[int]) -> UnpairedImages:
        """Return some of the inputs with their targets, in the given order."""
        shares = tuple(self.shares[i] for i in indices)
        return UnpairedImages(self.base.subset(indices), self.others, shares)


def read_splits(data: Any, *, reverse: bool, validation: float = 0.2, seed: int = 0) -> Splits:
    """Read images of two kinds to train on.

    Args:
        data: A folder, see ``reading.find_unpaired``; a dict ``{"a": images, "b": images}`` of folders,
            files or map-style datasets; or a pair (training, validation) of these.
        reverse: Whether those of the second kind are the inputs.
        validation: Fraction of the images of each kind to hold out if the dataset has no validation
            split, in (0, 1).
        seed: Seed of that random split.

    Returns:
        Training and validation samples.

    Raises:
        DataError: There are no images of a kind, or none to hold out.
    """
    splits = _read(data, reverse)
    if "train" not in splits:
        raise DataError(f"the dataset has no training images, only {' and '.join(splits)}")
    train = splits["train"]
    if "validation" in splits:
        held, origin = splits["validation"], "the dataset's validation split"
    else:
        parts = [split_at_random(len(kind), validation, seed) for kind in train]
        held = _subsets(train, [part[1] for part in parts])
        train = _subsets(train, [part[0] for part in parts])
        origin = f"{validation:.0%} of the training images of each kind, seed {seed}"
    facts: dict[str, Any] = {
        "validation from": origin,
        "training images of the other kind": len(train[1]),
    }
    if "test" in splits:
        facts["test images, not used"] = len(splits["test"][0])
    return Splits(UnpairedImages.of(*train), UnpairedImages.of(*held), facts)


def read_evaluation(data: Any, *, reverse: bool) -> EvaluationSplit:
    """Read images of two kinds to evaluate on: the test split, or the validation split, or all.

    Args:
        data: See ``read_splits``.
        reverse: Whether those of the second kind are the inputs.

    Raises:
        DataError: There are no images of a kind.
    """
    splits = _read(data, reverse)
    split = "validation" if as_pair(data) else evaluation_split(splits)
    return EvaluationSplit(UnpairedImages.of(*splits[split]), name_evaluated(split))


def _read(data: Any, reverse: bool) -> dict[str, Kinds]:
    pair = as_pair(data)
    if pair is not None:
        return join_pair(*(_read(each, reverse) for each in pair))
    return {
        split: (second, first) if reverse else (first, second)
        for split, (first, second) in _find(data).items()
    }


def _find(data: Any) -> dict[str, Kinds]:
    """Find the images of both kinds by split; those in memory are all for training."""
    if isinstance(data, (str, Path)):
        found = find_unpaired(Path(data))
        return {
            split: (unlabeled_samples(first), unlabeled_samples(second))
            for split, (first, second) in found.items()
        }
    if not isinstance(data, Mapping) or set(data) != set(KINDS):
        given = f"a dict of {', '.join(map(repr, data))}" if isinstance(data, Mapping) else data
        raise DataError(f"{given!s} holds no images of two kinds; pass {_FORM}")
    first, second = (unlabeled_samples(data[kind]) for kind in KINDS)
    for kind, images in zip(KINDS, (first, second), strict=True):
        if not len(images):
            raise DataError(f"there are no images of kind {kind!r}; pass {_FORM}")
    return {"train": (first, second)}


def _subsets(kinds: Kinds, positions: Sequence[Sequence[int]]) -> Kinds:
    first, second = (one.subset(some) for one, some in zip(kinds, positions, strict=True))
    return first, second
