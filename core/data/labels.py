"""The one mapping between label names and class ids, from the data to the exported file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from visiongraft.errors import DataError, near_matches


@dataclass(frozen=True)
class LabelMap:
    """Ordered label names; a label's id is its position.

    Attributes:
        names: The names, each once.

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
            raise DataError(f"label names {twice} appear more than once in the label map")
        if any(not n for n in self.names):
            raise DataError("the label map holds an empty name")

    @classmethod
    def from_names(cls, names: Iterable[str]) -> LabelMap:
        """Make a map from all names seen, sorted so that the order of the data does not matter."""
        return cls(tuple(sorted(set(names))))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def id_of(self, name: str) -> int:
        """Look a name up.

        Args:
            name: A label name.

        Returns:
            Its id.

        Raises:
            DataError: There is no such label.
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
