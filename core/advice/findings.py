"""What may be wrong with the images of a dataset, each with a remedy."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from visiongraft.advice.probes import fit_linear_probe
from visiongraft.data.report import DataReport, count_and_name
from visiongraft.data.samples import Samples
from visiongraft.scorers import ClassIds, Floats

NEAR = 0.4  # distance of near-duplicates, relative to the usual one of the nearest image
FAR = 3.0  # interquartile ranges beyond the quartile from which an image is an outlier
FEWEST = 8  # images that it can be told from what is usual
NEIGHBORS = 5  # all of which must contradict a label
LOOKED_AT = 64  # images whose channels and modes are looked at
SMALL, LARGE = 0.5, 4.0  # sizes of images relative to the network's input


@dataclass(frozen=True)
class Finding:
    """One thing that a user should look at before training.

    Attributes:
        found: What was found.
        remedy: What to do about it.
    """

    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.found}; {self.remedy}"


def size_findings(report: DataReport, size: tuple[int, int]) -> list[Finding]:
    """Compare the sizes of images with the network's input.

    Args:
        report: The check of the images.
        size: Height and width of the network's input.
    """
    sides = report.heights[1] / size[0], report.widths[1] / size[1]
    sizes = (
        f"images are {report.heights[1]}x{report.widths[1]} pixels in the median, and the network"
    )
    network = f"{size[0]}x{size[1]}"
    if max(sides) <= SMALL:
        return [
            Finding(
                f"{sizes} enlarges them to {network}",
                "a smaller size, as far as the backbone takes it, costs less; enlarged images have no "
                "more details",
            )
        ]
    if min(sides) >= LARGE:
        return [
            Finding(
                f"{sizes} shrinks them to {network}, where small details vanish",
                "if classes differ in details, such as text, pass a larger size or crops of the images",
            )
        ]
    return []


def color_findings(samples: Samples, channels: int) -> list[Finding]:
    """Look for gray images that are read as color, and for CMYK files."""
    chosen = [int(i) for i in np.linspace(0, len(samples) - 1, min(LOOKED_AT, len(samples)))]
    gray = [samples.name(i) for i in chosen if channels == 3 and _is_gray(samples.load(i, 3))]
    cmyk = [samples.name(i) for i in chosen if _mode(samples.content(i)) == "CMYK"]
    findings = []
    if gray:
        findings.append(
            Finding(
                f"{len(gray)} of {len(chosen)} images are gray",
                "all are repeated to three channels, which pretrained backbones expect"
                if len(gray) == len(chosen)
                else "make sure that color does not depend on the class, or convert all to gray",
            )
        )
    if cmyk:
        findings.append(
            Finding(
                count_and_name("images are CMYK", tuple(cmyk)),
                "their colors are converted without a profile; save them as RGB",
            )
        )
    return findings


def feature_findings(
    features: Floats, labels: ClassIds | None, names: Sequence[str]
) -> list[Finding]:
    """Look for outliers and likely label errors among the embeddings.

    Args:
        features: float64 (N, D).
        labels: int64 (N,), class ids; ``None`` if images have no single class.
        names: Names of the images.
    """
    findings = []
    outliers = tuple(names[i] for i in outlying(features))
    if outliers:
        findings.append(
            Finding(
                count_and_name("images are unlike all others", outliers),
                "look at them: they may be damaged, or belong to no class",
            )
        )
    if labels is not None:
        doubtful = tuple(names[i] for i in contradicted(features, labels))
        if doubtful:
            findings.append(
                Finding(
                    count_and_name("labels are likely wrong", doubtful),
                    f"look at them: a linear probe and all {NEIGHBORS} nearest images contradict",
                )
            )
    return findings


def leak_findings(
    training: Floats, validation: Floats, names: Sequence[str], others: Sequence[str]
) -> list[Finding]:
    """Look for validation images that are nearly the same as training images.

    Args:
        training: float64 (N, D), embeddings.
        validation: float64 (M, D).
        names: Names of the training images.
        others: Names of the validation images.
    """
    if len(training) < FEWEST:
        return []
    distances = 1 - _units(validation) @ _units(training).T
    nearest = distances.argmin(axis=1)
    usual = float(np.median(nearest_distances(training)))
    near = distances[np.arange(len(nearest)), nearest] <= NEAR * usual
    chosen = enumerate(nearest.tolist())
    pairs = tuple(f"{others[i]} ~ {names[j]}" for i, j in chosen if near[i])
    if not pairs:
        return []
    return [
        Finding(
            count_and_name("validation images are nearly the same as training images", pairs),
            "validation flatters; split by what the images are of, such as patient, video or place",
        )
    ]


def outlying(features: Floats) -> NDArray[np.intp]:
    """Return the images whose nearest other image is far beyond what is usual."""
    if len(features) < FEWEST:
        return np.empty(0, dtype=np.intp)
    nearest = np.log(np.maximum(nearest_distances(features), 1e-12))
    low, high = np.quantile(nearest, [0.25, 0.75])
    found = np.flatnonzero(nearest > high + FAR * (high - low))
    return found[np.argsort(-nearest[found])]


def nearest_distances(features: Floats) -> Floats:
    """Return the cosine distance of each image from the nearest other one, (N,)."""
    distances = 1 - _units(features) @ _units(features).T
    np.fill_diagonal(distances, np.inf)
    return np.asarray(distances.min(axis=1).clip(0))


def contradicted(features: Floats, labels: ClassIds) -> NDArray[np.intp]:
    """Return the images whose label neither a linear probe nor any neighbor agrees with."""
    probe = fit_linear_probe(features, labels).left_out
    units = _units(features)
    found = []
    for i in np.flatnonzero(probe != labels):
        similar = units @ units[i]
        similar[i] = -np.inf
        nearest = np.argsort(-similar)[:NEIGHBORS]
        if len(labels) > NEIGHBORS and (labels[nearest] == probe[i]).all():
            found.append(i)
    return np.asarray(found, dtype=np.intp)


def _units(features: Floats) -> Floats:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths > 0, lengths, 1)


def _is_gray(image: NDArray[np.uint8]) -> bool:
    return bool((image == image[..., :1]).all())


def _mode(content: bytes | None) -> str:
    if content is None:
        return ""
    try:
        with PillowImage.open(io.BytesIO(content)) as image:
            return image.mode
    except (OSError, ValueError):  # a format that Pillow does not read
        return ""
