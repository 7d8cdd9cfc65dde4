"""Which rows of a head's tensors belong to which class, so that a head for other classes keeps some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from visiongraft.seeds import preserved

if TYPE_CHECKING:
    from visiongraft.backbone import Backbone
    from visiongraft.task import Task

UNUSED = "\0a class that no dataset has"


@dataclass(frozen=True)
class ClassRows:
    """Where the classes are in the first dimension of a tensor.

    The dimension consists of ``groups``, each of ``before`` rows without a name and then the classes in
    order; each of these takes ``each`` rows. A linear classifier has one group of one row per class. A
    layer that scores the classes of 9 anchors per cell, with a background first, has
    ``groups=9, before=1``.

    Attributes:
        names: The classes in order.
        groups: How often they are repeated.
        each: Consecutive rows of a class.
        before: Classes without a name that precede the first, such as background.
    """

    names: tuple[str, ...]
    groups: int = 1
    each: int = 1
    before: int = 0

    @property
    def count(self) -> int:
        """The number of rows."""
        return self.groups * (self.before + len(self.names)) * self.each

    def rows(self, position: int) -> list[int]:
        """Return the rows of a class.

        Args:
            position: Its position in ``names``; -1 is the last class before the first.

        Examples:
            >>> ClassRows(("cat", "dog"), groups=2, before=1).rows(1)
            [2, 5]
        """
        classes = self.before + len(self.names)
        return [
            (group * classes + self.before + position) * self.each + row
            for group in range(self.groups)
            for row in range(self.each)
        ]


def find_class_rows(task: Task, backbone: Backbone) -> Mapping[str, ClassRows | None] | None:
    """Find the tensors of a head that have rows for classes, by building it for one class more.

    Args:
        task: The task, bound to its data.
        backbone: What its head is built for.

    Returns:
        See ``Task.class_rows``.
    """
    metadata = task.metadata()
    names = metadata.get("class_names")
    others = [n for n, v in metadata.items() if isinstance(v, list | tuple) and n != "class_names"]
    if others or (names and "class_names" not in vars(task)):
        return None
    if not names:
        return {}
    names = tuple(names)
    with preserved():
        try:
            wider: Task = replace(cast("Any", task), class_names=(*names, UNUSED))
            after = wider.build_head(backbone).state_dict()
        except Exception:  # one class more need not be possible, and says so in any way
            return None
        before = task.build_head(backbone).state_dict()
    found: dict[str, ClassRows | None] = {}
    for name in before.keys() & after.keys():
        one, other = before[name].shape, after[name].shape
        if one != other:
            is_plain = one[:1] == (len(names),) and other == (len(names) + 1, *one[1:])
            found[name] = ClassRows(names) if is_plain else None
    return found
