"""The mapping between class names and class ids, from the dataset to the exported file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from visiongraft.errors import DataError, near_matches


@dataclass(frozen=True)
class LabelMap:
    """Ordered class names; the id of a class is its position.

    Attributes:
        names: The class names, each once.

    Raises:
        DataError: A name appears twice or is empty.

    Examples:
        >>> labels = LabelMap.from_names(["dog", "cat", "dog"])
        >>> labels.names, labels.id_of("dog")
        (('cat', 'dog'), 1)
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        twice = sorted(name for name, count in Counter(self.names).items() if count > 1)
        if twice:
            raise DataError(f"class names {twice} appear more than once in the label map")
        if any(not n for n in self.names):
            raise DataError("the label map contains an empty class name")

    @classmethod
    def from_names(cls, names: Iterable[str]) -> LabelMap:
        """Create a map from all names, sorted so that the order of the samples does not matter."""
        return cls(tuple(sorted(set(names))))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def id_of(self, name: str) -> int:
        """Return the id of a class.

        Args:
            name: A class name.

        Returns:
            Its class id.

        Raises:
            DataError: There is no such class.
        """
        try:
            return self._ids[name]
        except KeyError:
            raise DataError(
                f"label {name!r} is not in the label map{near_matches(name, self.names)}"
            ) from None

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}


def balanced_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """Compute class weights inversely proportional to frequency, with mean 1 over what is counted.

    Args:
        counts: Number of training images, pixels or boxes per class.

    Returns:
        One weight per class; 0 for a class that does not occur.

    Examples:
        >>> balanced_weights([30, 10])
        (0.6666666666666666, 2.0)
    """
    present = sum(count > 0 for count in counts)
    return tuple(sum(counts) / (present * count) if count else 0.0 for count in counts)
