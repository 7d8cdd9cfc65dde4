"""The mapping between class names and class ids, from the dataset to the exported file."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from visiongraft.errors import DataError, name_some, near_matches, shorten

# Unicode categories of characters that change a terminal's or a file's lines, or have no encoding.
_UNSAFE = ("Cc", "Cs", "Zl", "Zp")
_NUMBER = re.compile(r"([0-9]+)(\.0*)?")
_BACKGROUND = frozenset({"background", "__background__", "_background_"})


@dataclass(frozen=True)
class LabelMap:
    """Ordered class names; the id of a class is its position.

    Names are the same if they differ in their Unicode form only, such as a letter with an accent
    and the letter followed by a combining accent.

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
        counts = Counter(map(_composed, self.names))
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            named = name_some(map(repr, twice))
            raise DataError(f"class names [{named}] appear more than once in the label map")
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
            return self._ids[_composed(name)]
        except KeyError:
            raise DataError(
                f"label {shorten(repr(name))} is not in the label map{near_matches(name, self.names)}"
            ) from None

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {_composed(name): i for i, name in enumerate(self.names)}


def class_name(text: str) -> str:
    r"""Return the name of a class as readers write it, from a folder's name or a field of a table.

    Args:
        text: The name as found.

    Returns:
        The name in Unicode's composed form, so that it does not depend on the system that wrote
        it, with control characters escaped.

    Examples:
        >>> class_name("gru\u0308n") == "gr\u00fcn", class_name("\x1b[31mred")
        (True, '\\x1b[31mred')
    """
    composed = _composed(text)
    if composed.isprintable():
        return composed
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in _UNSAFE else c for c in composed)


def is_background(name: str) -> bool:
    """Check whether a class name means what belongs to no class, as annotation tools write it.

    Examples:
        >>> is_background("Background"), is_background("_background_"), is_background("back")
        (True, True, False)
    """
    return name.strip().lower() in _BACKGROUND


def similar_names(names: Iterable[str]) -> list[str]:
    """Find class names that are probably meant to be one class.

    Args:
        names: Class names.

    Returns:
        One line for a warning; none if all names differ in more than upper and lower case,
        whitespace, invisible characters, compatible Unicode characters and spellings of a number.

    Examples:
        >>> similar_names(["Cat", "cat ", "dog"])
        ["class names that differ only in case, spaces or similar characters: 'Cat' and 'cat '"]
        >>> similar_names(["1", "1.0", "2"])
        ["class names that differ only in case, spaces or similar characters: '1' and '1.0'"]
    """
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        groups.setdefault(_bare(name), []).append(name)
    alike = [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
    if not alike:
        return []
    return [
        f"class names that differ only in case, spaces or similar characters: {name_some(alike)}"
    ]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _bare(name: str) -> str:
    folded = unicodedata.normalize("NFKC", name).casefold()
    number = _NUMBER.fullmatch(folded.strip())
    if number:  # tools write the same class as 1, 01 and 1.0
        return number[1].lstrip("0") or "0"
    return "".join(c for c in folded if not c.isspace() and unicodedata.category(c) != "Cf")


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
