"""Which split of a dataset serves what, and validation splits of datasets that have none."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

from visiongraft.errors import OptionError
from visiongraft.seeds import mix_seed


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
