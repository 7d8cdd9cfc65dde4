"""Samples with targets of several heads, of the samples that each head's task has read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

from visiongraft.data.samples import Image, Samples, WrappedSamples
from visiongraft.errors import PluginError

Place = tuple[int, int]  # which samples of a head, and the position among them


@dataclass(frozen=True)
class MultiSamples(Samples):
    """Images with a target for some heads each.

    Attributes:
        sources: What each head's task has read: samples of one split or of several.
        places: For each image, where the heads that have a target for it find it.
    """

    sources: Mapping[str, tuple[Samples, ...]]
    places: tuple[Mapping[str, Place], ...]

    def __len__(self) -> int:
        return len(self.places)

    def name(self, index: int) -> str:
        """Return the name in the samples of the first head."""
        samples, position = self._first(index)
        return samples.name(position)

    def target(self, index: int) -> dict[str, Any]:
        """Return the targets by head, without those that are missing."""
        return {head: s.target(i) for head, (s, i) in self._all(index).items()}

    def load(self, index: int, channels: int = 3) -> Image:
        """Decode the image, as the first head does."""
        samples, position = self._first(index)
        return samples.load(position, channels)

    def content(self, index: int) -> bytes | None:
        """Return the bytes of the file, if there is one."""
        samples, position = self._first(index)
        return samples.content(position)

    def problem(self, index: int, height: int, width: int) -> str:
        """Return the first problem that a head's target has."""
        found = (s.problem(i, height, width) for s, i in self._all(index).values())
        return next(filter(None, found), "")

    def checked_target(self, index: int, height: int, width: int) -> tuple[str, Callable[[], Any]]:
        """Return the first problem, and a function that returns the targets."""
        checked = {
            head: s.checked_target(i, height, width) for head, (s, i) in self._all(index).items()
        }
        problem = next((words for words, _ in checked.values() if words), "")
        return problem, partial(_called, {head: target for head, (_, target) in checked.items()})

    def attributes(self, index: int) -> Mapping[str, str]:
        """Return the attributes that any head's samples have."""
        found: dict[str, str] = {}
        for samples, position in self._all(index).values():
            found = {**samples.attributes(position), **found}
        return found

    def subject(self, index: int) -> str | None:
        """Return the subject that any head's samples name."""
        names = (s.subject(i) for s, i in self._all(index).values())
        return next((name for name in names if name is not None), None)

    def subset(self, indices: Sequence[int]) -> MultiSamples:
        """Return some of the samples, in the given order."""
        return replace(self, places=tuple(self.places[i] for i in indices))

    def of_head(self, head: str, source: int = 0) -> Samples:
        """Return the samples of one head that are among these, as its task has read them.

        Args:
            head: Name of the head.
            source: Which of its samples.
        """
        places = (place[head] for place in self.places if head in place)
        return self.sources[head][source].subset([i for which, i in places if which == source])

    def count(self, head: str) -> int:
        """Return how many images have a target of a head."""
        return sum(head in place for place in self.places)

    def _all(self, index: int) -> dict[str, tuple[Samples, int]]:
        return {
            head: (self.sources[head][which], position)
            for head, (which, position) in self.places[index].items()
        }

    def _first(self, index: int) -> tuple[Samples, int]:
        return next(iter(self._all(index).values()))


@dataclass(frozen=True)
class HeadSamples(WrappedSamples):
    """The samples that have a target for one head, with this target alone.

    Attributes:
        base: Samples with targets by head.
        head: Name of the head.
    """

    head: str

    @classmethod
    def of(cls, samples: Samples, head: str) -> HeadSamples:
        """Select the samples that have a target for a head."""
        known = [i for i in range(len(samples)) if head in samples.target(i)]
        return cls(samples.subset(known), head)

    def target(self, index: int) -> Any:
        """Return the head's target."""
        return self.base.target(index)[self.head]


@dataclass(frozen=True)
class ProofSamples(WrappedSamples):
    """Samples with targets by head, some of which are to prove an exported file on.

    Attributes:
        base: The samples.
        proved: Samples of some heads, see ``Task.proof_samples``.
        places: For each image, where these heads have their target of it.
    """

    proved: Mapping[str, Samples]
    places: tuple[Mapping[str, int], ...]

    @classmethod
    def of(
        cls, samples: Samples, prove: Mapping[str, Callable[[Samples], Samples]]
    ) -> ProofSamples:
        """Replace the targets of some heads.

        Args:
            samples: Samples with targets by head.
            prove: For each of these heads, what returns the samples for its own.

        Raises:
            PluginError: A head returns another number of samples.
        """
        proved = {}
        places: list[dict[str, int]] = [{} for _ in range(len(samples))]
        for head, function in prove.items():
            known = [i for i in range(len(samples)) if head in samples.target(i)]
            proved[head] = function(HeadSamples(samples.subset(known), head))
            if len(proved[head]) != len(known):
                raise PluginError(
                    f"head {head!r}: proof_samples returned {len(proved[head])} samples for {len(known)}"
                )
            for position, i in enumerate(known):
                places[i][head] = position
        return cls(samples, proved, tuple(places))

    def target(self, index: int) -> dict[str, Any]:
        """Return the targets by head."""
        own = {head: self.proved[head].target(i) for head, i in self.places[index].items()}
        return {**self.base.target(index), **own}

    def subset(self, indices: Sequence[int]) -> Self:
        """Return some of the samples, in the given order."""
        places = tuple(self.places[i] for i in indices)
        return replace(self, base=self.base.subset(indices), places=places)


def _called(functions: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    return {head: function() for head, function in functions.items()}
