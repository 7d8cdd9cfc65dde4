"""Results that a certificate holds: recorded at export, and read where the file is checked.

They stand in for the model and for PyTorch. What another runtime may round differently is left out:
a number counts only if it stays the same where an image's values change very slightly.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from visiongraft.certificate import CertifiedImage
from visiongraft.comparison import Arrays
from visiongraft.errors import ExportError
from visiongraft.exporters.verification.seeded_images import KINDS, SeededImage, flipped, raw_batch
from visiongraft.exporters.verification.trial_images import PLAIN
from visiongraft.inputs import IMAGES, Inputs
from visiongraft.system.progress import track
from visiongraft.verification.engine import (
    TOLERANCE,
    ImageBatch,
    RunBatch,
    of_image,
)
from visiongraft.verification.summaries import (
    Values,
    accepted,
    describe_difference,
    statistics_of,
    summarize,
)

MARGIN = 4  # times what changed in trials may change elsewhere
MEAN_MARGIN = 2  # the same for the mean over all images
MOST = 0.1  # the largest relative difference that is ever accepted, for a lower precision
FLIPPED = 3  # values of an image that change in such trials, as rounding changes few of 8 bits
_TRIALS = 4
CHANGES = "~"  # in place of a number that rounding can change
_MAX_SIDE, _MAX_IMAGES = 8192, 256  # that a certificate may ask for


class Trusted(Protocol):
    """PyTorch, for a file of full precision."""

    @property
    def name(self) -> str:
        """Name in messages."""

    def nearby(self, images: ImageBatch) -> Sequence[Arrays]:
        """Return its results for raw images, and then for nearly the same images."""

    def accepts(self, images: ImageBatch, results: tuple[Arrays, Arrays]) -> bool:
        """Check whether its results for one image and those of the file are as good as equal."""


class _Limits(NamedTuple):
    """Accepted differences of one result, relative to its largest value.

    Attributes:
        each: Of each number.
        mean: Of the mean over all images, which a fault of all of them raises.
    """

    each: float
    mean: float


@dataclass
class _Trial:
    """The result of one image by one name, and how much its numbers changed in trials."""

    value: NDArray[Any]
    spread: Values

    @property
    def relative(self) -> float:
        """The change that all numbers but a few keep within, relative to the largest value."""
        return relative_change(self.value, self.spread)

    def text(self, limits: _Limits) -> str:
        """Write the numbers that count."""
        tolerance = limits.each
        stable = self.spread * MARGIN <= accepted(self.value, tolerance)
        numbers = zip(summarize(self.value), stable, strict=True)
        shape = "x".join(map(str, self.value.shape)) or "1"
        words = (f"{number:.7g}" if kept else CHANGES for number, kept in numbers)
        return " ".join([shape, f"{tolerance:.3g}", f"{limits.mean:.3g}", *words])


def relative_change(value: NDArray[Any], changes: Values) -> float:
    """Return what three of four changes keep within, relative to the largest value."""
    if not len(changes):
        return 0.0
    return float(np.quantile(changes, 0.75)) / max(float(np.abs(value).max()), 1e-12)


def certified_results(
    run: RunBatch,
    batches: Iterable[Sequence[SeededImage]],
    channels: int,
    trusted: Trusted | None,
    inputs: Inputs = IMAGES,
) -> tuple[CertifiedImage, ...]:
    """Record the results of a file.

    Args:
        run: Returns its results for raw images, uint8 (N, H, W, C).
        batches: The images.
        channels: Number of their channels.
        trusted: PyTorch, which the results have to agree with; ``None`` for a lower precision,
            whose own results for nearly the same images tell how stable they are.
        inputs: What the file takes, which is made of the images.

    Returns:
        One entry per image.

    Raises:
        ExportError: A result is not finite, or not that of PyTorch.
    """
    made: list[tuple[SeededImage, int, dict[str, _Trial]]] = []
    for number, images in enumerate(track(batches, "proof: seeded images", None)):
        pixels = raw_batch(images, channels, inputs)
        found = run(pixels)
        if trusted is None:
            others = [run(flipped(pixels, FLIPPED, seed)) for seed in range(_TRIALS)]
            exact = found
        else:
            exact, *others = trusted.nearby(pixels)
        for i, image in enumerate(images):
            one = of_image(found, i)
            trials = _trials(image, one, [of_image(other, i) for other in (exact, *others)])
            if trusted is not None and not _agree(of_image(exact, i), one, trials):
                pair = of_image(exact, i), one
                if not trusted.accepts(pixels[i : i + 1], pair):
                    raise ExportError(
                        f"the exported file disagrees with {trusted.name} on {image}: "
                        f"{describe_difference(*pair)}"
                    )
                trials = {name: _unstable(trial) for name, trial in trials.items()}
            made.append((image, number, trials))
    tolerances = _tolerances((trials for _, _, trials in made), lower=trusted is None)
    return tuple(
        CertifiedImage(
            image.kind,
            image.seed,
            image.height,
            image.width,
            number,
            {name: trial.text(tolerances[name]) for name, trial in trials.items()},
        )
        for image, number, trials in made
    )


def _trials(image: SeededImage, found: Arrays, others: Sequence[Arrays]) -> dict[str, _Trial]:
    """Measure how much each number changes among results for nearly the same image."""
    trials = {}
    for name, value in found.items():
        value = value[0]
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ExportError(f"{name} is not finite on {image}")
        numbers = [summarize(other[name][0]) for other in others if name in other]
        spread = np.zeros(len(statistics_of(value)))
        for other in numbers[1:]:
            same = other.shape == numbers[0].shape == spread.shape
            spread = np.maximum(spread, abs(other - numbers[0]) if same else np.inf)
        trials[name] = _Trial(value, spread)
    return trials


def _agree(exact: Arrays, found: Arrays, trials: Mapping[str, _Trial]) -> bool:
    """Check whether the stable numbers of a file are those of PyTorch."""
    for name, trial in trials.items():
        limit = accepted(trial.value, TOLERANCE)
        stable = trial.spread * MARGIN <= limit
        value = exact.get(name)
        if value is None or value[0].shape != trial.value.shape:
            return False
        if (abs(summarize(value[0]) - summarize(found[name][0])) > limit)[stable].any():
            return False
    return True


def _unstable(trial: _Trial) -> _Trial:
    """Leave all numbers out."""
    return _Trial(trial.value, np.full_like(trial.spread, np.inf))


def _tolerances(trials: Iterable[Mapping[str, _Trial]], lower: bool) -> dict[str, _Limits]:
    """Choose the accepted differences of each result: fixed ones in full precision."""
    relative: dict[str, list[float]] = defaultdict(list)
    for one in trials:
        for name, trial in one.items():
            relative[name].append(trial.relative)
    if not lower:
        return dict.fromkeys(relative, _Limits(TOLERANCE, TOLERANCE))

    def limit(change: float) -> float:
        return min(MOST, max(TOLERANCE, change))

    return {
        name: _Limits(
            limit(MARGIN * float(np.quantile(values, 0.9))),
            limit(MEAN_MARGIN * float(np.mean(np.minimum(values, MOST)))),
        )
        for name, values in relative.items()
    }


def parse_certified(entries: Any) -> tuple[CertifiedImage, ...] | None:
    """Read the entries of a certificate; ``None`` if they are not what ``certified_results`` makes."""
    if not isinstance(entries, list) or len(entries) > _MAX_IMAGES:
        return None
    try:
        made = tuple(CertifiedImage(**entry) for entry in entries)
    except TypeError:
        return None
    return made if all(map(_is_sound, made)) else None


def _is_sound(entry: CertifiedImage) -> bool:
    numbers = (entry.seed, entry.height, entry.width, entry.batch)
    if (
        not all(type(n) is int and 0 <= n < _MAX_SIDE for n in numbers)
        or not entry.height * entry.width
    ):
        return False
    if entry.kind not in (*KINDS, *PLAIN) or not isinstance(entry.results, dict):
        return False
    return all(
        isinstance(text, str) and _is_text(text.split(" ")) for text in entry.results.values()
    )


def _is_text(words: Sequence[str]) -> bool:
    try:
        numbers = [float(word) for word in words[1:] if word != CHANGES]
    except ValueError:
        return False
    return (
        len(words) > 1
        and words[1] != CHANGES
        and all(map(math.isfinite, numbers))
        and (0 < numbers[0] <= MOST)
    )
