"""The images whose labels are judged: all of both splits, with their classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from visiongraft.advice.sampling import labels_of, renumbered
from visiongraft.data.batch import class_sets
from visiongraft.data.check import CheckedSplits
from visiongraft.data.report import count_and_name
from visiongraft.data.samples import Samples
from visiongraft.errors import DataError
from visiongraft.task import Task

FEWEST = 2  # images of a class, or without it


@dataclass(frozen=True)
class LabeledImages:
    """Labeled images of both splits.

    Attributes:
        samples: The samples of each split.
        places: Split of each image and position within it.
        labels: int64 (N,), class ids; or bool (N, C), which classes each image has.
        class_names: Names of the C classes by id.
    """

    samples: dict[str, Samples]
    places: list[tuple[str, int]]
    labels: NDArray[Any]
    class_names: list[str]

    @classmethod
    def of(cls, task: Task, checked: CheckedSplits) -> Self:
        """Collect the images of both splits."""
        samples = {"training": checked.train, "validation": checked.validation}
        labels = [found for own in samples.values() if (found := any_labels(task, own)) is not None]
        places = [(split, i) for split, own in samples.items() for i in range(len(own))]
        joined = np.concatenate(labels)
        count = joined.shape[1] if joined.ndim == 2 else int(joined.max()) + 1
        known = task.metadata().get("class_names") or range(count)
        return cls(samples, places, joined, list(map(str, known)))

    @property
    def several(self) -> bool:
        """Whether an image can have several classes."""
        return self.labels.ndim == 2

    @property
    def names(self) -> list[str]:
        """Name of each image."""
        return [self.samples[split].name(position) for split, position in self.places]

    def words(self, label: Any) -> str:
        """Return a row of ``labels`` in words."""
        if not self.several:
            return self.class_names[int(label)]
        return ", ".join(self.class_names[i] for i in np.flatnonzero(label)) or "no class"

    def judged(self) -> tuple[Self, NDArray[np.intp], list[str]]:
        """Leave out what cannot be judged: classes of a single image, or without which there is only one.

        Returns:
            The rest, the positions of its images, and what is left out, one line each.

        Raises:
            DataError: Nothing is left that could be told apart.
        """
        everything = np.arange(len(self.places))
        if self.several:
            with_it = self.labels.sum(axis=0)
            kept = (with_it >= FEWEST) & (len(self.labels) - with_it >= FEWEST)
            if not kept.any():
                raise DataError(
                    "find_mistakes needs a class that some images have and some have not"
                )
            rest = [name for name, k in zip(self.class_names, kept, strict=True) if k]
            odd = tuple(name for name, k in zip(self.class_names, kept, strict=True) if not k)
            what = "classes are of too few images, or of nearly all, and not looked at"
            found = replace(self, labels=self.labels[:, kept], class_names=rest)
            return found, everything, [count_and_name(what, odd)] if odd else []
        counts = np.bincount(self.labels)
        single = tuple(self.class_names[i] for i in np.flatnonzero(counts == 1))
        chosen = np.flatnonzero(counts[self.labels] >= FEWEST)
        ids = np.unique(self.labels[chosen])
        if len(ids) < 2:
            raise DataError("find_mistakes needs at least two classes of at least two images")
        found = replace(
            self,
            places=[self.places[i] for i in chosen],
            labels=renumbered(self.labels[chosen]),
            class_names=[self.class_names[i] for i in ids],
        )
        what = "classes have a single image, which is not looked at"
        return found, chosen, [count_and_name(what, single)] if single else []


def any_labels(task: Task, samples: Samples) -> NDArray[Any] | None:
    """Return the class, or the classes, of each sample.

    Args:
        task: The task, which collates targets.
        samples: The samples; images are not decoded.

    Returns:
        int64 (N,) or bool (N, C); ``None`` if targets are anything else.
    """
    single = labels_of(task, samples)
    if single is not None:
        return single
    count = len(task.metadata().get("class_names", ()))
    if class_sets(task.collate([samples.target(0)]), count) is None:
        return None
    found = class_sets(task.collate([samples.target(i) for i in range(len(samples))]), count)
    return None if found is None else np.asarray(found.numpy())
