"""Which split of a dataset serves what, and validation splits of datasets that have none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any, Protocol, Self, TypeVar

from visiongraft.errors import DataError, OptionError
from visiongraft.seeds import mix_seed


class _Divisible(Protocol):
    def subset(self, indices: Sequence[int]) -> Self: ...


Split = TypeVar("Split")
Divisible = TypeVar("Divisible", bound=_Divisible)


def as_pair(data: Any) -> tuple[Any, Any] | None:
    """Return the two datasets of a pair (training, validation).

    Args:
        data: What a user passed as data.

    Returns:
        The pair, or ``None`` if the data is one dataset.

    Raises:
        DataError: It is a tuple of another length.

    Examples:
        >>> as_pair(("a", "b")), as_pair("a")
        (('a', 'b'), None)
    """
    if not isinstance(data, tuple):
        return None
    if len(data) != 2:
        raise DataError(
            f"data is one dataset or a pair (training, validation), not {len(data)} items"
        )
    return data


def join_pair(training: Mapping[str, Split], validation: Mapping[str, Split]) -> dict[str, Split]:
    """Combine the training split of one dataset with the validation split of another.

    Args:
        training: Splits of the first dataset of a pair.
        validation: Splits of the second.

    Returns:
        ``"train"`` and ``"validation"``; see ``validation_split``.

    Raises:
        DataError: The first dataset has no training images.
    """
    if "train" not in training:
        raise DataError("the training dataset of the pair has no training images")
    name = validation_split(validation)
    return {"train": training["train"], "validation": validation[name]}


def validation_split(splits: Collection[str]) -> str:
    """Return the name of the split to validate on, in the second dataset of a pair.

    Args:
        splits: Names of the splits that the dataset has.

    Examples:
        >>> validation_split({"train", "test"})
        'test'
    """
    return next(name for name in ("validation", "test", "train") if name in splits)


def evaluation_split(splits: Collection[str]) -> str:
    """Return the name of the split to evaluate a trained model on.

    Args:
        splits: Names of the splits that the dataset has.

    Examples:
        >>> evaluation_split({"train", "validation"})
        'validation'
    """
    return next(name for name in ("test", "validation", "train") if name in splits)


def name_evaluated(split: str) -> str:
    """Return the name of an evaluated split in results.

    Args:
        split: What ``evaluation_split`` returned; it is ``"train"`` only if there is no other.

    Examples:
        >>> name_evaluated("validation"), name_evaluated("train")
        ('validation', 'all')
    """
    return "all" if split == "train" else split


def training_and_validation(
    splits: Mapping[str, Divisible],
    split_off: Callable[[Divisible], tuple[list[int], list[int]]],
    how: str,
) -> tuple[Divisible, Divisible, str]:
    """Return the training and validation samples, held out if there is no validation split.

    Args:
        splits: Samples by split, with a training split.
        split_off: Returns the positions of the training samples to keep and to hold out.
        how: Describes what is held out.

    Returns:
        Training samples, validation samples, and a description of where the latter come from.
    """
    train = splits["train"]
    if "validation" in splits:
        return train, splits["validation"], "the dataset's validation split"
    kept, validation = split_off(train)
    return train.subset(kept), train.subset(validation), how


def stratified_split(
    keys: Sequence[Hashable], fraction: float, seed: int = 0
) -> tuple[list[int], list[int]]:
    """Split off a fraction of the samples of every key.

    Args:
        keys: The key that each sample is stratified by, such as its label; all equal for a plain
            split.
        fraction: Fraction to hold out, in (0, 1).
        seed: Seed of the choice.

    Returns:
        Positions of the samples to keep and of those held out, both ascending. A key with two or
        more samples has at least one on each side, and its fraction is met within one sample; the
        only sample of a key is kept.

    Raises:
        OptionError: The fraction is not in (0, 1).

    Examples:
        >>> kept, validation = stratified_split(["a"] * 8 + ["b"] * 4, 0.25)
        >>> len(kept), [["a", "b"][i >= 8] for i in validation]
        (9, ['a', 'a', 'b'])
    """
    if not 0 < fraction < 1:
        raise OptionError(f"validation={fraction} is not a fraction in (0, 1)")
    groups: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        groups.setdefault(key, []).append(position)
    validation: set[int] = set()
    for positions in groups.values():
        if len(positions) < 2:
            continue
        count = min(max(round(len(positions) * fraction), 1), len(positions) - 1)
        # Ordered by a hash: the stream of a library's generator may change with its version.
        validation.update(sorted(positions, key=lambda p: mix_seed(seed, "split", p))[:count])
    return [i for i in range(len(keys)) if i not in validation], sorted(validation)


def split_at_random(count: int, fraction: float, seed: int = 0) -> tuple[list[int], list[int]]:
    """Split off a fraction of samples that have no keys.

    Args:
        count: Number of samples.
        fraction: Fraction to hold out, in (0, 1).
        seed: Seed of the choice.

    Returns:
        Positions of the samples to keep and of those held out, both ascending.

    Raises:
        DataError: There is one sample only.
        OptionError: The fraction is not in (0, 1).
    """
    kept, validation = stratified_split([0] * count, fraction, seed)
    if not validation:
        raise DataError("a single image cannot be split; add images or a validation split")
    return kept, validation


def split_by_class(
    classes: Sequence[Sequence[int]], counts: Sequence[int], fraction: float, seed: int = 0
) -> tuple[list[int], list[int]]:
    """Split off a fraction of the samples of every class, where samples may have several classes.

    A sample counts for the rarest of its classes. A sample one of whose classes would have no
    other sample to train on is kept.

    Args:
        classes: The class ids of each sample, possibly none.
        counts: Number of samples or objects of each class.
        fraction: Fraction to hold out, in (0, 1).
        seed: Seed of the choice.

    Returns:
        Positions of the samples to keep and of those held out, both ascending.

    Raises:
        DataError: No sample can be held out.
        OptionError: The fraction is not in (0, 1).

    Examples:
        >>> split_by_class([[0], [0], [0], [1], [1]], [3, 2], 0.5)[1]
        [0, 2, 4]
    """
    keys = [min(ids, key=lambda i: (counts[i], i), default=None) for ids in classes]
    kept, chosen = stratified_split(keys, fraction, seed)
    learned = {i for position in kept for i in classes[position]}
    returned = set()
    for position in chosen:
        if not learned.issuperset(classes[position]):
            learned.update(classes[position])
            returned.add(position)
    validation = [i for i in chosen if i not in returned]
    if not validation:
        raise DataError(
            "no class has two images, so none can be held out for validation; add images or a "
            "validation split"
        )
    return sorted([*kept, *returned]), validation
