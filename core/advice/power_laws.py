"""Power laws of the error over the number of images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visiongraft.scorers import Floats

RATIOS = np.linspace(0.02, 0.98, 49)  # of an error to the one with half the images
LITTLE = 0.01  # a curve is flat where twice the images remove fewer errors than this


@dataclass(frozen=True)
class PowerLaws:
    """Several power laws of the number of images: errors ``rest + scale * ratio**k`` after k doublings.

    Attributes:
        rest: float64 (R,), the error that remains for ever.
        scale: float64 (R,), the error beyond it at the first point of the curve.
        ratio: float64 (R,), factor of each doubling, at most 1.
    """

    rest: Floats
    scale: Floats
    ratio: Floats

    def at(self, doublings: float) -> Floats:
        """Return the errors after some doublings, float64 (R,)."""
        return np.asarray(self.rest + self.scale * self.ratio**doublings)

    def reaching(self, error: float) -> Floats:
        """Return the doublings after which the error has fallen to a value; infinity for never."""
        return self._doublings(error - self.rest)

    def flat_from(self) -> Floats:
        """Return the doublings after which another one removes fewer errors than ``LITTLE``."""
        with np.errstate(divide="ignore"):
            return self._doublings(LITTLE / (1 - self.ratio))

    def _doublings(self, error: Floats) -> Floats:
        """Return the doublings after which the error beyond the rest has fallen to a value."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.log(error / self.scale) / np.log(self.ratio)
        reached = error >= self.scale  # from the first point on
        never = (error <= 0) | (self.ratio >= 1)
        return np.asarray(np.where(reached, 0.0, np.where(never, np.inf, found)))


def fit_flattening(errors: Floats) -> PowerLaws:
    """Fit power laws with an error that remains to errors at doubled numbers of images.

    Fits ``a + b r^k`` with ``a, b >= 0`` and ``r`` in (0, 1) by least squares for each of some ratios ``r``.

    Args:
        errors: float64 (R, points), each row a curve.
    """
    steps = np.arange(errors.shape[1])
    best = np.full(len(errors), np.inf)
    found = np.zeros((3, len(errors)))
    for ratio in RATIOS:
        powers = ratio**steps
        centered = powers - powers.mean()
        slopes = np.maximum((errors @ centered) / (centered**2).sum(), 0)
        rests = errors.mean(1) - slopes * powers.mean()
        alone = np.maximum(errors @ powers / (powers**2).sum(), 0)  # without an error that remains
        slopes, rests = np.where(rests < 0, alone, slopes), np.maximum(rests, 0)
        misfit = ((errors - rests[:, None] - slopes[:, None] * powers) ** 2).sum(1)
        better = misfit < best
        best = np.where(better, misfit, best)
        found = np.where(better, [rests, slopes, np.full(len(errors), ratio)], found)
    return PowerLaws(*found)


def fit_falling(errors: Floats) -> PowerLaws:
    """Fit power laws as ``fit_flattening`` does, which fall by the same factor ``r <= 1`` for ever."""
    steps = np.arange(errors.shape[1]) - (errors.shape[1] - 1) / 2
    logs = np.log(np.maximum(errors, 1e-9))
    slopes = np.minimum(logs @ steps / (steps**2).sum(), 0)
    return PowerLaws(
        np.zeros(len(errors)), np.exp(logs.mean(1) + slopes * steps[0]), np.exp(slopes)
    )
