"""Compare the results of a file with those that its certificate holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from visiongraft.certificate import CertifiedImage
from visiongraft.comparison import Arrays
from visiongraft.errors import escape_unprintable
from visiongraft.exporters.verification.certified_results import (
    CHANGES,
    FLIPPED,
    MOST,
    relative_change,
)
from visiongraft.exporters.verification.seeded_images import SeededImage, flipped, raw_batch
from visiongraft.inputs import IMAGES, Inputs
from visiongraft.verification.engine import (
    MAX_NEAR_TIES,
    NEAR_TIE_FRACTION,
    ImageBatch,
    RunBatch,
    of_image,
)
from visiongraft.verification.summaries import (
    accepted,
    describe_change,
    statistics_of,
    summarize,
)

_DRAWS = 8  # of changed images, before an image is no near-tie
_ROUNDED = 1e-6  # of a number, since it is written with seven digits


@dataclass(frozen=True)
class CertifiedComparison:
    """How the results of a file compare with the certified ones.

    Attributes:
        images: Number of images.
        sizes: Shortest and longest of their sides, in pixels.
        largest_batch: Images in the largest batch.
        numbers: Numbers that count.
        left_out: Numbers that rounding can change.
        near_ties: Images whose results are those certified once a few values change by one.
        problem: What differs; empty if nothing does.
    """

    images: int
    sizes: tuple[int, int]
    largest_batch: int
    numbers: int
    left_out: int
    near_ties: int
    problem: str


@dataclass(frozen=True)
class _Number:
    """A number that is not as certified."""

    statistic: str
    expected: float
    found: float


@dataclass
class _Image:
    """The comparison of one image.

    Attributes:
        image: How it is made.
        wrong: Numbers that differ, by name of the result.
        other: What else is wrong.
        changes: Relative change of each real-valued result, and how large its mean may be.
        numbers: Numbers that count.
        left_out: Numbers that rounding can change.
    """

    image: SeededImage
    wrong: dict[str, list[_Number]] = field(default_factory=dict)
    other: list[str] = field(default_factory=list)
    changes: dict[str, tuple[float, float]] = field(default_factory=dict)
    numbers: int = 0
    left_out: int = 0

    @property
    def differs(self) -> bool:
        return bool(self.wrong or self.other)


def compare_certified(
    run: RunBatch,
    certified: Sequence[CertifiedImage],
    channels: int,
    tolerance: float = MOST,
    inputs: Inputs = IMAGES,
) -> CertifiedComparison:
    """Compare the results of a file with those that its certificate holds.

    An image whose results differ is a near-tie if the certified ones come back once a few of its
    values change by one; at most three images, or a tenth of them, may be near-ties.

    Args:
        run: Returns the file's results for raw images, uint8 (N, H, W, C).
        certified: The entries, at least one.
        channels: Number of the images' channels.
        tolerance: Largest accepted difference where the certified one is larger: a lower precision
            rounds in the same way as at export where the runtime and the processor are the same.
        inputs: What the file takes.

    Returns:
        The comparison.
    """
    most = max(MAX_NEAR_TIES, len(certified) // NEAR_TIE_FRACTION)
    compared: list[_Image] = []
    near_ties, largest = 0, 0
    for _, group in groupby(certified, key=lambda entry: entry.batch):
        entries = list(group)
        images = [SeededImage(e.kind, e.seed, e.height, e.width) for e in entries]
        pixels = raw_batch(images, channels, inputs)
        largest = max(largest, len(images))
        found = run(pixels)
        for i, (image, entry) in enumerate(zip(images, entries, strict=True)):
            one = _compare(image, entry, _of(found, i), tolerance)
            tried = near_ties < most and not (one.other or any(o.differs for o in compared))
            if one.differs and tried and _is_near_tie(run, pixels, i, image, entry, tolerance):
                near_ties += 1
            else:
                compared.append(one)
    sides = [side for entry in certified for side in (entry.height, entry.width)]
    return CertifiedComparison(
        len(certified),
        (min(sides), max(sides)),
        largest,
        sum(one.numbers for one in compared),
        sum(one.left_out for one in compared),
        near_ties,
        _problem(compared),
    )


def _of(found: Arrays, index: int) -> Arrays:
    """Return the results of one image; those of another number of images stay as they are."""
    return {name: of_image({name: value}, index)[name] for name, value in found.items()}


def _compare(image: SeededImage, entry: CertifiedImage, found: Arrays, most: float) -> _Image:
    one = _Image(image)
    one.other += [f"{name} is not certified" for name in found.keys() - entry.results.keys()]
    for name, text in entry.results.items():
        shape, each, mean, *words = text.split(" ")
        if name not in found or len(found[name]) != 1:
            what = "is missing" if name not in found else "belongs to another number of images"
            one.other.append(f"{name} {what}")
            continue
        value = found[name][0]
        got = "x".join(map(str, value.shape)) or "1"
        statistics = statistics_of(value)
        if got != shape or len(statistics) != len(words):
            one.other.append(f"{name} has the shape {got} instead of {shape}")
            continue
        if not np.isfinite(value).all():
            one.other.append(f"{name} is not finite")
            continue
        expected = np.array([np.nan if word == CHANGES else float(word) for word in words])
        counts, numbers = np.isfinite(expected), summarize(value)
        changes = np.where(counts, abs(numbers - expected), 0.0)
        one.numbers += int(counts.sum())
        one.left_out += int((~counts).sum())
        if value.dtype.kind == "f":
            one.changes[name] = relative_change(value, changes[counts]), min(float(mean), most)
        limits = accepted(value, min(float(each), most)) + _ROUNDED * np.nan_to_num(abs(expected))
        if wrong := [
            _Number(statistics[i], float(expected[i]), float(numbers[i]))
            for i in np.flatnonzero(changes > limits)
        ]:
            one.wrong[name] = wrong
    return one


def _is_near_tie(
    run: RunBatch,
    pixels: ImageBatch,
    index: int,
    image: SeededImage,
    entry: CertifiedImage,
    tolerance: float,
) -> bool:
    """Check whether the certified results come back where a few values of the image change."""
    for count in (1, FLIPPED):
        for draw in range(_DRAWS):
            changed = pixels.copy()
            changed[index] = flipped(pixels[index : index + 1], count, draw)[0]
            if not _compare(image, entry, _of(run(changed), index), tolerance).differs:
                return True
    return False


def _problem(compared: Sequence[_Image]) -> str:
    """Describe what differs, for each result on the first image where it does."""
    parts: dict[str, str] = {}
    for one in compared:
        for text in one.other:
            parts.setdefault(text.split(" ")[0], f"{text} on {one.image}")
        for name, numbers in one.wrong.items():
            parts.setdefault(name, _described(name, numbers, one.image))
    differing = sum(one.differs for one in compared)
    if differing:
        lines = [*parts.values(), f"{differing} of {len(compared)} images differ"]
    else:
        lines = list(_drifted(compared))
    return escape_unprintable("; ".join(lines))


def _described(name: str, numbers: Sequence[_Number], image: SeededImage) -> str:
    first = numbers[0]
    values = [number for number in numbers if number.statistic.startswith("value")]
    expected, found = (np.array([getattr(n, key) for n in values]) for key in ("expected", "found"))
    rule = describe_change(expected, found)
    changed = f"{name}: {first.statistic} is {first.found:.5g} instead of {first.expected:.5g}"
    return f"{changed} on {image}{f' ({rule})' if rule else ''}"


def _drifted(compared: Sequence[_Image]) -> Iterator[str]:
    """Describe results that are within their limits, but off on average."""
    changes: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for one in compared:
        for name, change in one.changes.items():
            changes[name].append(change)
    for name, found in changes.items():
        mean, most = (float(value) for value in np.mean(found, axis=0))
        if mean > most:
            yield f"{name} differ by {mean:.2%} of the largest value on average; {most:.2%} is accepted"
