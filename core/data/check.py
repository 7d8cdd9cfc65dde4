"""Checks of a dataset before training: unreadable images, duplicates, image sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from visiongraft.data.findings import FindingsCache, inspect_images
from visiongraft.data.pixels import is_dark, is_one_value
from visiongraft.data.report import (
    DARK,
    DARK_REMEDY,
    DataReport,
    Finding,
    count_and_name,
    leaked_line,
    make_report,
    unreadable_line,
)
from visiongraft.data.samples import Samples
from visiongraft.errors import DataError
from visiongraft.inputs import IMAGES, Inputs

UNREADABLE_LIMIT = 0.01


class SampleDigests(NamedTuple):
    """The content of one sample, by which it is recognized in another place.

    Attributes:
        image: Hash of the image, see ``Finding.digest``.
        target: Hash of the target.
        name: Name of the sample.
    """

    image: str
    target: str
    name: str


@dataclass(frozen=True)
class CheckedSplits:
    """The readable samples of both splits, and the report.

    Attributes:
        train: Readable training samples.
        validation: Readable validation samples.
        report: What the check found.
        digests: Digests of the readable samples by split, in their order.
    """

    train: Samples
    validation: Samples
    report: DataReport
    digests: dict[str, list[SampleDigests]]


@dataclass(frozen=True)
class CheckedSamples:
    """The readable samples of a dataset that will be evaluated, and the report.

    Attributes:
        samples: Readable samples.
        report: What the check found.
        images: Hash of each readable image, see ``Finding.digest``.
    """

    samples: Samples
    report: DataReport
    images: list[str]


@dataclass(frozen=True)
class CheckedSet:
    """The readable samples of a further dataset.

    Attributes:
        samples: The samples.
        digests: Their digests, in their order.
        warnings: One line for each issue that a user should know about before training.
    """

    samples: Samples
    digests: list[SampleDigests]
    warnings: tuple[str, ...]


def check_samples(
    train: Samples,
    validation: Samples,
    *,
    channels: int = 3,
    cache: Path | None = None,
    save: bool = True,
    limit: float | None = None,
    inputs: Inputs = IMAGES,
) -> CheckedSplits:
    """Decode every image once, drop unreadable ones and find duplicates.

    Args:
        train: Training samples.
        validation: Validation samples.
        channels: Number of channels to decode to.
        cache: File that stores the report and the findings; images that have not changed since
            are not decoded again.
        save: Write that file; otherwise it is only read.
        limit: Fraction of the images that may be unreadable; ``None`` for 1 %.
        inputs: What the samples are; messages are about that instead of images.

    Returns:
        The readable samples and the report.

    Raises:
        DataError: More than that are unreadable, or a split has no readable image.
    """
    store = FindingsCache(cache, inputs)
    store.load()
    in_train, in_validation = (
        list(inspect_images(s, channels, store, targets=True)) for s in (train, validation)
    )
    report = make_report(
        {"training": (train, in_train), "validation": (validation, in_validation)}, inputs.name
    )
    if save:
        store.save(report)
    _refuse_too_many(report.unreadable, len(train) + len(validation), inputs, limit)
    checked = CheckedSplits(
        _readable(train, in_train),
        _readable(validation, in_validation),
        report,
        {"training": _digests(train, in_train), "validation": _digests(validation, in_validation)},
    )
    for split, samples, findings in (
        ("training", checked.train, in_train),
        ("validation", checked.validation, in_validation),
    ):
        if len(samples) == 0:
            problems = tuple(finding.problem for finding in findings if finding.problem)
            cause = f" ({count_and_name('unreadable', problems)})" if problems else ""
            raise DataError(f"the {split} split has no readable {inputs.name}{cause}; add some")
    _refuse_black("training", train, in_train)
    return checked


def check_further(
    name: str,
    samples: Samples,
    training: Sequence[SampleDigests] = (),
    *,
    channels: int = 3,
    cache: Path | None = None,
    save: bool = True,
    inputs: Inputs = IMAGES,
) -> CheckedSet:
    """Decode every image of a dataset beside the training data once and drop unreadable ones.

    Args:
        name: The dataset in words, for messages.
        samples: Its samples.
        training: Digests of the training images, which must not be among them.
        channels: Number of channels to decode to.
        cache: As for ``check_samples``, a file of its own.
        save: Write that file; otherwise it is only read.
        inputs: What the samples are.

    Returns:
        The readable samples.

    Raises:
        DataError: More than 1% of the images are unreadable, or there is no readable image.
    """
    store = FindingsCache(cache, inputs)
    store.load()
    findings = list(inspect_images(samples, channels, store, targets=True))
    problems = tuple(f"{name}: {finding.problem}" for finding in findings if finding.problem)
    readable, digests = _readable(samples, findings), _digests(samples, findings)
    if save:
        store.save(DataReport(images={name: len(readable)}, unreadable=problems))
    _refuse_too_many(problems, len(samples), inputs)
    if len(readable) == 0:
        raise DataError(f"{name} has no readable {inputs.name}; add some")
    trained = {each.image for each in training}
    leaked = tuple(each.name for each in digests if each.image in trained)
    kind, warnings = inputs.name, []
    if problems:
        warnings.append(unreadable_line(kind, problems))
    if leaked:
        warnings.append(leaked_line(f"{kind} of {name}", leaked))
    return CheckedSet(readable, digests, tuple(warnings))


def are_reproducible(samples: Samples, channels: int = 3) -> bool:
    """Check whether images without files are equal if they are loaded twice.

    A dataset in memory may augment its images at random.

    Args:
        samples: Readable samples.
        channels: Number of channels to decode to.

    Returns:
        Whether the first, middle and last image were.
    """
    probes = {0, len(samples) // 2, len(samples) - 1}
    return all(
        samples.content(i) is not None
        or np.array_equal(samples.load(i, channels), samples.load(i, channels))
        for i in probes
    )


def find_unreadable(samples: Samples, channels: int = 3, inputs: Inputs = IMAGES) -> dict[int, str]:
    """Decode every image once and report the ones that cannot be used.

    Args:
        samples: The samples to check.
        channels: Number of channels to decode to.
        inputs: What the samples are.

    Returns:
        What is wrong with each unusable sample, by its position.
    """
    findings = inspect_images(samples, channels, FindingsCache(None, inputs))
    return {i: finding.problem for i, finding in enumerate(findings) if finding.problem}


def check_evaluated(samples: Samples, channels: int = 3, inputs: Inputs = IMAGES) -> CheckedSamples:
    """Decode the images of a dataset that will be evaluated, and drop unreadable ones.

    Args:
        samples: The samples to check.
        channels: Number of channels to decode to.
        inputs: What the samples are.

    Returns:
        The readable samples and the report.

    Raises:
        DataError: More than 1% of the images are unreadable, no image is left, or all are black
            because of their range of values.
    """
    findings = list(inspect_images(samples, channels, FindingsCache(None, inputs)))
    report = make_report({"evaluated": (samples, findings)}, inputs.name)
    _refuse_too_many(report.unreadable, len(samples), inputs)
    readable = _readable(samples, findings)
    if len(readable) == 0:
        raise DataError(f"there are no {inputs.name} to evaluate")
    _refuse_black("evaluated", samples, findings)
    return CheckedSamples(readable, report, [f.digest for f in findings if not f.problem])


def _refuse_too_many(
    problems: tuple[str, ...], total: int, inputs: Inputs, limit: float | None = None
) -> None:
    limit = UNREADABLE_LIMIT if limit is None else limit
    if len(problems) > limit * total:
        raise DataError(
            f"{count_and_name(f'of {total} {inputs.name} are unreadable', problems)}; repair or remove them "
            f"(up to {limit:.0%} would be dropped)"
        )


def _refuse_black(split: str, samples: Samples, findings: list[Finding]) -> None:
    """Refuse images that are all black because of their range of values."""
    good = [i for i, finding in enumerate(findings) if not finding.problem]
    values = {findings[i].values for i in good}
    if len(values) == 1 and all(is_dark(value) and is_one_value(value) for value in values):
        raise DataError(
            f"all {len(good)} {split} images, such as {samples.name(good[0])}, have 16 bits, {DARK} "
            f"and are black; {DARK_REMEDY}"
        )


def _readable(samples: Samples, findings: list[Finding]) -> Samples:
    good = [i for i, finding in enumerate(findings) if not finding.problem]
    return samples if len(good) == len(samples) else samples.subset(good)


def _digests(samples: Samples, findings: list[Finding]) -> list[SampleDigests]:
    return [
        SampleDigests(finding.digest, finding.target, samples.name(i))
        for i, finding in enumerate(findings)
        if not finding.problem
    ]
