"""What was found in a dataset: unreadable images, duplicates, unusual values, sizes of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from visiongraft.data.pixels import DARK_BELOW, is_dark
from visiongraft.data.samples import Samples

DARK = f"use at most 1/{256 // DARK_BELOW} of the range of values"
DARK_REMEDY = "scale their values to 0..65535, or save them with 8 bits"


@dataclass(frozen=True)
class Finding:
    """The result of checking one image.

    Attributes:
        digest: Hash of the file's bytes, or of the pixels if there is no file.
        height: Height in pixels; 0 if the image is unreadable.
        width: Width in pixels; 0 if the image is unreadable.
        problem: Why the sample cannot be used; empty if it can.
        values: What is unusual about the values of its pixels, see ``unusual_values``.
        target: Hash of the target; empty if it is unknown.
    """

    digest: str
    height: int = 0
    width: int = 0
    problem: str = ""
    values: str = ""
    target: str = ""


@dataclass(frozen=True)
class DataReport:
    """The result of checking a dataset.

    Attributes:
        images: Number of readable images by split.
        unreadable: One line per unreadable image.
        leaked: Pairs of names: a training image and a validation image that are identical.
        conflicting: Pairs of names: identical training images with different targets.
        heights: Minimum, median and maximum height in pixels.
        widths: Minimum, median and maximum width in pixels.
        one_valued: Names of files whose pixels are all equal.
        dark: Names of images of 16 bits per value that are black, or nearly, in 8 bits.
        kind: What the samples are, in the plural.
    """

    images: dict[str, int]
    unreadable: tuple[str, ...] = ()
    leaked: tuple[tuple[str, str], ...] = ()
    conflicting: tuple[tuple[str, str], ...] = ()
    heights: tuple[int, int, int] = (0, 0, 0)
    widths: tuple[int, int, int] = (0, 0, 0)
    one_valued: tuple[str, ...] = ()
    dark: tuple[str, ...] = ()
    kind: str = "images"

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each issue that a user should know about before training."""
        lines = []
        if self.unreadable:
            lines.append(unreadable_line(self.kind, self.unreadable))
        if self.leaked:
            pairs = tuple(f"{a} = {b}" for a, b in self.leaked)
            lines.append(leaked_line(f"validation {self.kind}", pairs))
        if self.conflicting:
            pairs = tuple(f"{a} = {b}" for a, b in self.conflicting)
            what = f"identical training {self.kind} have different targets"
            lines.append(f"{count_and_name(what, pairs)}; keep the right one of each pair")
        if self.one_valued:
            what = count_and_name("images have the same value in all pixels", self.one_valued)
            lines.append(f"{what}; look at them: they may be damaged")
        if self.dark:
            lines.append(
                count_and_name(
                    f"16-bit images {DARK}, and are (nearly) black; {DARK_REMEDY}", self.dark
                )
            )
        return tuple(lines)

    def counts(self) -> dict[str, Any]:
        """Return the numbers without the names, as JSON values, for a model card."""
        return {
            **{f"{split} {self.kind}": count for split, count in self.images.items()},
            "unreadable": len(self.unreadable),
            "identical in training and validation": len(self.leaked),
            "identical with different targets": len(self.conflicting),
            "height (min, median, max)": list(self.heights),
            "width (min, median, max)": list(self.widths),
        }


def make_report(
    checked: Mapping[str, tuple[Samples, Sequence[Finding]]], kind: str = "images"
) -> DataReport:
    """Summarize what was found.

    Args:
        checked: The samples that were checked and the finding on each, by split. Training images are
            compared with each other and with the validation images.
        kind: What the samples are, in the plural.

    Returns:
        The report.
    """
    good = [
        (finding, samples.name(i))
        for samples, findings in checked.values()
        for i, finding in enumerate(findings)
        if not finding.problem
    ]
    leaked, conflicting = _duplicates(checked)
    unusual = [(finding, name) for finding, name in good if finding.values]
    return DataReport(
        images={
            split: sum(not f.problem for f in findings) for split, (_, findings) in checked.items()
        },
        unreadable=tuple(
            f.problem for _, findings in checked.values() for f in findings if f.problem
        ),
        leaked=leaked,
        conflicting=conflicting,
        heights=_spread([f.height for f, _ in good]),
        widths=_spread([f.width for f, _ in good]),
        one_valued=tuple(name for f, name in unusual if not is_dark(f.values)),
        dark=tuple(name for f, name in unusual if is_dark(f.values)),
        kind=kind,
    )


def _duplicates(
    checked: Mapping[str, tuple[Samples, Sequence[Finding]]],
) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """Find validation images in training, and equal training images with different targets."""
    if "training" not in checked:
        return (), ()
    train, in_train = checked["training"]
    validation, in_validation = checked["validation"]
    first: dict[str, int] = {}
    conflicting = []
    for i, finding in enumerate(in_train):
        if finding.problem:
            continue
        j = first.setdefault(finding.digest, i)
        if i != j and finding.target != in_train[j].target:
            conflicting.append((train.name(j), train.name(i)))
    leaked = [
        (train.name(first[f.digest]), validation.name(i))
        for i, f in enumerate(in_validation)
        if not f.problem and f.digest in first
    ]
    return tuple(leaked), tuple(conflicting)


def _spread(values: list[int]) -> tuple[int, int, int]:
    if not values:
        return 0, 0, 0
    return min(values), int(np.median(values)), max(values)


def unreadable_line(kind: str, problems: tuple[str, ...]) -> str:
    """Return the warning of samples that are left out since they cannot be read.

    Args:
        kind: What the samples are, in the plural.
        problems: One line for each.
    """
    return f"{count_and_name(f'unreadable {kind} were dropped', problems)}; repair or remove them"


def leaked_line(what: str, pairs: tuple[str, ...]) -> str:
    """Return the warning of samples that a model is measured on, and trained on as well.

    Args:
        what: Which samples, in the plural.
        pairs: Their names.
    """
    return f"{count_and_name(f'{what} are also in training', pairs)}; results flatter: remove them from one of the two"


def count_and_name(what: str, names: tuple[str, ...], shown: int = 3) -> str:
    """Return a line with the number of things and the names of the first few.

    Examples:
        >>> count_and_name("files were skipped", ("a", "b"), shown=1)
        '2 files were skipped: a, and 1 more'
    """
    more = f", and {len(names) - shown} more" if len(names) > shown else ""
    return f"{len(names)} {what}: {'; '.join(names[:shown])}{more}"
