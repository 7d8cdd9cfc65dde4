"""Join the datasets of several heads: an image that several of them contain is one sample."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from visiongraft.data.findings import are_files, content_digest
from visiongraft.data.samples import EvaluationSplit, Samples, Splits
from visiongraft.errors import DataError
from visiongraft.multi_task.samples import MultiSamples, Place
from visiongraft.task import Task

TRAIN, VALIDATION = range(2)


@dataclass
class _Image:
    """An image while datasets are joined.

    Attributes:
        split: The split that it is in.
        places: Where the heads that have a target for it find it.
    """

    split: int
    places: dict[str, Place] = field(default_factory=dict)


def join_splits(found: Mapping[str, Splits], heads: Mapping[str, Task], shared: bool) -> Splits:
    """Join what the heads' tasks have read to train on.

    The first head that has an image decides whether it is for training or validation. A head whose task
    had it in the other split moves it, or if its targets are not comparable loses it, so that no
    validation image is trained on.

    Args:
        found: The splits by head.
        heads: The task of each head.
        shared: Whether all are one dataset, whose images must be the same.

    Returns:
        The joined splits.

    Raises:
        DataError: A head has no image in a split, or heads of one dataset share no image.
    """
    sources = {head: (splits.train, splits.validation) for head, splits in found.items()}
    images: dict[tuple[str, int], _Image] = {}
    moved, lost = dict.fromkeys(found, 0), dict.fromkeys(found, 0)
    for head, which, position, key in _places(sources):
        image = images.setdefault(key, _Image(which))
        if image.split != which:
            counted = moved if heads[head].splits_alike else lost
            counted[head] += 1
            if counted is lost:
                continue
        image.places[head] = which, position
    train, validation = (
        MultiSamples(sources, _in_order([i.places for i in images.values() if i.split == split]))
        for split in (TRAIN, VALIDATION)
    )
    for head in found:
        for split, samples in (("training", train), ("validation", validation)):
            if not samples.count(head):
                raise DataError(
                    f"head {head!r} has no {split} images that no other head has in its other split"
                )
    warnings = [f"{head}: {line}" for head, splits in found.items() for line in splits.warnings]
    warnings += _remarks(train, validation, lost, shared)
    facts: dict[str, Any] = {}
    for head, splits in found.items():
        own = {
            **splits.facts,
            "training images": train.count(head),
            "validation images": validation.count(head),
            **({"moved to another split": moved[head]} if moved[head] else {}),
        }
        facts |= {f"{head}: {name}": value for name, value in own.items()}
    return Splits(train, validation, facts, tuple(warnings))


def join_evaluation(found: Mapping[str, EvaluationSplit]) -> EvaluationSplit:
    """Join what the heads' tasks have read to evaluate a model on."""
    sources = {head: (split.samples,) for head, split in found.items()}
    images: dict[tuple[str, int], dict[str, Place]] = {}
    for head, which, position, key in _places(sources):
        images.setdefault(key, {})[head] = which, position
    names = {split.split for split in found.values()}
    subjects = next((s.subjects for s in found.values() if s.subjects != "subjects"), "subjects")
    warnings = [f"{head}: {line}" for head, split in found.items() for line in split.warnings]
    samples = MultiSamples(sources, _in_order(images.values()))
    name = names.pop() if len(names) == 1 else None
    return EvaluationSplit(samples, name, tuple(warnings), subjects)


def _in_order(places: Iterable[dict[str, Place]]) -> tuple[dict[str, Place], ...]:
    """Sort images by their position among those of their first head, so that the heads alternate."""
    return tuple(sorted(places, key=lambda place: next(iter(place.values()))[1]))


def _remarks(
    train: MultiSamples, validation: MultiSamples, lost: Mapping[str, int], shared: bool
) -> list[str]:
    """Describe what users may not expect of the joined images."""
    warnings = [
        f"head {head!r}: {count} targets are not used, since another head has their images in another split"
        for head, count in lost.items()
        if count
    ]
    places = (*train.places, *validation.places)
    if len(lost) > 1 and all(len(place) == 1 for place in places):
        words = f"heads {', '.join(map(repr, lost))} share no image"
        if shared:
            raise DataError(f"{words}, although all read the same dataset")
        warnings.append(f"{words}: each image has the target of one head only")
    return warnings


def _places(
    sources: Mapping[str, tuple[Samples, ...]],
) -> list[tuple[str, int, int, tuple[str, int]]]:
    """Return head, split, position and identity of each sample; an image that a head has twice is two."""
    keys = iter(_keys([samples for own in sources.values() for samples in own], len(sources)))
    found = []
    for head, own in sources.items():
        seen: dict[str, int] = {}
        for which in range(len(own)):
            for position, key in enumerate(next(keys)):
                seen[key] = seen.get(key, 0) + 1
                found.append((head, which, position, (key, seen[key])))
    return found


def _keys(sets: Sequence[Samples], heads: int) -> list[list[str]]:
    """Identify images: files by path or, where several have one size, by content; others by pixels.

    Args:
        sets: The samples of all heads.
        heads: The number of heads.

    Returns:
        For each set what identifies each image, equal for equal images.
    """
    files = [are_files(samples) for samples in sets]
    paths = [
        [os.path.realpath(samples.name(i)) for i in range(len(samples))] if is_file else []
        for samples, is_file in zip(sets, files, strict=True)
    ]
    repeated = _of_equal_size({path for own in paths for path in own})
    by_pixels = heads > 1 and files.count(False) > 1
    found = []
    for number, (samples, own) in enumerate(zip(sets, paths, strict=True)):
        if own:
            found.append([_file(samples, i, path, repeated) for i, path in enumerate(own)])
        elif by_pixels:
            found.append([_pixels(samples, index) for index in range(len(samples))])
        else:
            found.append([f"{number}:{index}" for index in range(len(samples))])
    return found


def _of_equal_size(paths: set[str]) -> set[str]:
    """Return the files that may have equal content, since there are others of their size."""
    by_size: dict[int, list[str]] = {}
    for path in paths:
        try:
            by_size.setdefault(os.path.getsize(path), []).append(path)
        except OSError:
            continue  # a missing file is found by the check before training
    return {path for equal in by_size.values() if len(equal) > 1 for path in equal}


def _file(samples: Samples, index: int, path: str, repeated: set[str]) -> str:
    content = samples.content(index) if path in repeated else None
    return path if content is None else content_digest(content)


def _pixels(samples: Samples, index: int) -> str:
    image = samples.load(index)
    return content_digest(str(image.shape).encode() + image.tobytes())
