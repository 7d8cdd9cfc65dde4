"""What is looked at before training: unreadable images, duplicates, sizes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from visiongraft.data.decode import decode_bytes
from visiongraft.data.samples import Samples
from visiongraft.errors import ArtifactError, DataError
from visiongraft.saving.files import read_json, write_json

UNREADABLE_LIMIT = 0.01


@dataclass(frozen=True)
class Finding:
    """What one image turned out to be.

    Attributes:
        digest: Hash of its bytes, or of its pixels where there is no file.
        height: In pixels; 0 if unreadable.
        width: In pixels; 0 if unreadable.
        problem: Why it cannot be used, or empty.
    """

    digest: str
    height: int = 0
    width: int = 0
    problem: str = ""


@dataclass(frozen=True)
class DataReport:
    """What was found in the data.

    Attributes:
        images: Readable images by part.
        unreadable: One line per unreadable image.
        leaked: Names of training and validation images that are identical, in pairs.
        conflicting: Names of identical training images with different targets, in pairs.
        heights: Smallest, median and largest height in pixels.
        widths: Smallest, median and largest width in pixels.
    """

    images: dict[str, int]
    unreadable: tuple[str, ...] = ()
    leaked: tuple[tuple[str, str], ...] = ()
    conflicting: tuple[tuple[str, str], ...] = ()
    heights: tuple[int, int, int] = (0, 0, 0)
    widths: tuple[int, int, int] = (0, 0, 0)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line on each thing a user should know before training."""
        lines = []
        if self.unreadable:
            lines.append(_some("unreadable images were dropped", self.unreadable))
        if self.leaked:
            pairs = tuple(f"{a} = {b}" for a, b in self.leaked)
            lines.append(_some("validation images are also in training", pairs))
        if self.conflicting:
            pairs = tuple(f"{a} = {b}" for a, b in self.conflicting)
            lines.append(_some("identical training images have different targets", pairs))
        return tuple(lines)

    def counts(self) -> dict[str, Any]:
        """Give the figures alone, as JSON values, for a model card."""
        return {
            **{f"{part} images": count for part, count in self.images.items()},
            "unreadable": len(self.unreadable),
            "identical in training and validation": len(self.leaked),
            "identical with different targets": len(self.conflicting),
            "height (min, median, max)": list(self.heights),
            "width (min, median, max)": list(self.widths),
        }

    def to_json(self) -> dict[str, Any]:
        """Give everything as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class CheckedSplits:
    """Samples without the unreadable ones, and the report.

    Attributes:
        train: Training samples.
        validation: Validation samples.
        report: What was found.
    """

    train: Samples
    validation: Samples
    report: DataReport


@dataclass
class _Cache:
    """Findings by path, file size and time, so that a resumed run need not decode again."""

    path: Path | None
    known: dict[str, Any] = field(default_factory=dict)
    fresh: dict[str, Any] = field(default_factory=dict)

    def load(self) -> None:
        if self.path is not None and self.path.is_file():
            try:
                self.known = dict(read_json(self.path)["findings"])
            except (ArtifactError, KeyError, TypeError, ValueError):
                self.known = {}  # a damaged cache only costs time

    def key(self, samples: Samples, index: int, channels: int) -> str | None:
        if self.path is None:
            return None
        try:
            path = os.path.abspath(samples.name(index))
            stat = os.stat(path)
        except OSError:
            return None
        return f"{path}|{stat.st_size}|{stat.st_mtime_ns}|{channels}"

    def get(self, key: str | None) -> Finding | None:
        match self.known.get(key) if key is not None else None:
            case [str(digest), int(height), int(width), str(problem)]:
                return Finding(digest, height, width, problem)
        return None  # unknown, or damaged

    def save(self, report: DataReport) -> None:
        if self.path is not None:
            write_json(self.path, {"report": report.to_json(), "findings": self.fresh})


def check_samples(
    train: Samples,
    validation: Samples,
    *,
    channels: int = 3,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckedSplits:
    """Decode every image once, drop the unreadable ones, and look for duplicates.

    Args:
        train: Training samples.
        validation: Validation samples.
        channels: Channels to decode to.
        cache: File that keeps report and findings; images that have not changed since are not
            decoded again.
        progress: Told how many images are done, of how many.

    Returns:
        Readable samples and the report.

    Raises:
        DataError: More than 1 % is unreadable, or a part has no readable image.
    """
    store = _Cache(cache)
    store.load()
    total = len(train) + len(validation)
    found: dict[str, list[Finding]] = {}
    done = 0
    for part, samples in (("training", train), ("validation", validation)):
        found[part] = []
        for finding in _findings(samples, channels, store):
            found[part].append(finding)
            done += 1
            if progress is not None:
                progress(done, total)
    report = _report(train, validation, found["training"], found["validation"])
    store.save(report)
    _stop_if_too_many(report.unreadable, total)
    checked = CheckedSplits(
        _readable(train, found["training"]), _readable(validation, found["validation"]), report
    )
    for part, samples in (("training", checked.train), ("validation", checked.validation)):
        if len(samples) == 0:
            raise DataError(f"the {part} part has no readable image; add some")
    return checked


def find_unreadable(samples: Samples, channels: int = 3) -> dict[int, str]:
    """Decode every image once, and say what is wrong with those that cannot be used.

    Args:
        samples: The images.
        channels: Channels to decode to.

    Returns:
        One line by position, for the unreadable ones alone.
    """
    findings = _findings(samples, channels, _Cache(None))
    return {i: finding.problem for i, finding in enumerate(findings) if finding.problem}


def drop_unreadable(samples: Samples, channels: int = 3) -> tuple[Samples, int]:
    """Drop the unreadable images of a set that is to be evaluated.

    Args:
        samples: The set.
        channels: Channels to decode to.

    Returns:
        The readable ones, and how many were dropped.

    Raises:
        DataError: More than 1 % is unreadable, or nothing is left.
    """
    findings = list(_findings(samples, channels, _Cache(None)))
    problems = tuple(f.problem for f in findings if f.problem)
    _stop_if_too_many(problems, len(samples))
    readable = _readable(samples, findings)
    if len(readable) == 0:
        raise DataError("there is no image to evaluate")
    return readable, len(problems)


def _findings(samples: Samples, channels: int, store: _Cache) -> Iterator[Finding]:
    """Look at all images in threads (decoders release the interpreter lock), in order."""
    one_by_one = Lock()  # a dataset's own code need not be safe in threads

    def look(index: int) -> Finding:
        key = store.key(samples, index, channels)
        finding = store.get(key) or _look(samples, index, channels, one_by_one)
        if key is not None:
            store.fresh[key] = [finding.digest, finding.height, finding.width, finding.problem]
        if not finding.problem:  # the target may have changed where the image has not
            problem = samples.problem(index, finding.height, finding.width)
            finding = replace(finding, problem=problem)
        return finding

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        window = 1024  # bounds what waits in memory
        for start in range(0, len(samples), window):
            yield from threads.map(look, range(start, min(start + window, len(samples))))


def _look(samples: Samples, index: int, channels: int, one_by_one: Lock) -> Finding:
    content = samples.content(index)
    try:
        if content is not None:
            image = decode_bytes(content, samples.name(index), channels)
        else:
            with one_by_one:
                image = samples.load(index, channels)
    except DataError as error:
        return Finding("", problem=str(error))
    # With the shape, or all black images of one area would be identical.
    hashed = content if content is not None else str(image.shape).encode() + image.tobytes()
    digest = hashlib.blake2b(hashed, digest_size=16).hexdigest()
    return Finding(digest, image.shape[0], image.shape[1])


def _report(
    train: Samples, validation: Samples, in_train: list[Finding], in_validation: list[Finding]
) -> DataReport:
    first: dict[str, int] = {}
    conflicting = []
    for i, finding in enumerate(in_train):
        if finding.problem:
            continue
        j = first.setdefault(finding.digest, i)
        if i != j and repr(train.target(i)) != repr(train.target(j)):
            conflicting.append((train.name(j), train.name(i)))
    leaked = [
        (train.name(first[f.digest]), validation.name(i))
        for i, f in enumerate(in_validation)
        if not f.problem and f.digest in first
    ]
    good = [f for f in (*in_train, *in_validation) if not f.problem]
    return DataReport(
        images={
            "training": sum(not f.problem for f in in_train),
            "validation": sum(not f.problem for f in in_validation),
        },
        unreadable=tuple(f.problem for f in (*in_train, *in_validation) if f.problem),
        leaked=tuple(leaked),
        conflicting=tuple(conflicting),
        heights=_spread([f.height for f in good]),
        widths=_spread([f.width for f in good]),
    )


def _spread(values: list[int]) -> tuple[int, int, int]:
    if not values:
        return 0, 0, 0
    return min(values), int(np.median(values)), max(values)


def _stop_if_too_many(problems: tuple[str, ...], total: int) -> None:
    if len(problems) > UNREADABLE_LIMIT * total:
        raise DataError(
            f"{_some(f'of {total} images are unreadable', problems)}; repair or remove them "
            f"(up to {UNREADABLE_LIMIT:.0%} would be dropped)"
        )


def _readable(samples: Samples, findings: list[Finding]) -> Samples:
    good = [i for i, finding in enumerate(findings) if not finding.problem]
    if len(good) == len(samples):
        return samples
    return samples.subset(good)


def _some(what: str, names: tuple[str, ...], shown: int = 3) -> str:
    more = f", and {len(names) - shown} more" if len(names) > shown else ""
    return f"{len(names)} {what}: {'; '.join(names[:shown])}{more}"
