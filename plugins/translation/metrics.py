"""How near images are to their targets: PSNR, SSIM and the mean absolute error."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.errors import DataError
from visiongraft.plugins.dense.made_image import as_images
from visiongraft.plugins.image_sets.features import ImageSets
from visiongraft.task import Arrays

Values = NDArray[np.float64]

WINDOW, SIGMA = 11, 1.5  # pixels
STABILIZERS = (0.01**2, 0.03**2)
BEST_PSNR = 100.0  # of equal images, for which it would be infinite


class ImageMetrics:
    """Compares images with their targets, all of 0..1, and averages over the images.

    ``ssim``, the headline metric, is the structural similarity; ``psnr`` the peak signal-to-noise
    ratio in decibels; ``l1`` the mean absolute difference. With a feature network also ``kid``, ``fid``,
    ``precision`` and ``recall``, of all images and all targets.

    Args:
        features: Name of the feature network; ``None`` for none.
        size: Height and width to which it gets images; its own if ``None``.
    """

    def __init__(self, features: str | None = None, size: int | None = None) -> None:
        self.rows: list[tuple[float, float, float]] = []
        self.sets = None if features is None else ImageSets(features, size)

    def update(self, decoded: Arrays, targets: Any) -> None:
        """Add one batch.

        Args:
            decoded: ``image``, float (N, 3, H, W) in 0..1.
            targets: uint8 (H, W, 3) per image, as one tensor or a list.

        Raises:
            DataError: The size of a target differs from that of its image.
        """
        for image, target in zip(decoded["image"], targets, strict=True):
            wanted = np.asarray(target).transpose(2, 0, 1).astype(np.float64) / 255
            if wanted.shape != image.shape:
                raise DataError(
                    f"a target has {wanted.shape[1]}x{wanted.shape[2]} pixels, but its image has "
                    f"{image.shape[1]}x{image.shape[2]}"
                )
            made = image.astype(np.float64)
            self.rows.append((ssim(made, wanted), psnr(made, wanted), _l1(made, wanted)))
        if self.sets is not None:
            self.sets.add(as_images(decoded["image"]), [np.asarray(target) for target in targets])

    def compute(self) -> dict[str, Any]:
        """Return the means over all images so far.

        Raises:
            DataError: There were no images.
        """
        if not self.rows:
            raise DataError("there are no images to evaluate")
        means = np.mean(self.rows, axis=0).tolist()
        further = {} if self.sets is None else self.sets.compare()
        return {**dict(zip(("ssim", "psnr", "l1"), means, strict=True)), **further}


def psnr(made: Values, wanted: Values) -> float:
    """Compute the peak signal-to-noise ratio of images in 0..1.

    Args:
        made: float (C, H, W).
        wanted: float of the same shape.

    Returns:
        Decibels, at most 100.

    Examples:
        >>> psnr(np.zeros((3, 4, 4)), np.full((3, 4, 4), 0.1))
        20.0
    """
    error = float(np.square(made - wanted).mean())
    return BEST_PSNR if error <= 10 ** (-BEST_PSNR / 10) else float(round(-10 * np.log10(error), 9))


def ssim(made: Values, wanted: Values) -> float:
    """Compute the structural similarity of images in 0..1 (Wang et al., 2004).

    Statistics are those of windows of 11 pixels around every pixel, with Gaussian weights of 1.5 pixels;
    beyond its border an image is mirrored.

    Args:
        made: float (C, H, W).
        wanted: float of the same shape.

    Returns:
        The mean over pixels and channels, in -1..1.
    """
    made, wanted = (_mirrored(values) for values in (made, wanted))
    mean_a, mean_b = _smooth(made), _smooth(wanted)
    variance_a = np.maximum(_smooth(made * made) - mean_a**2, 0.0)
    variance_b = np.maximum(_smooth(wanted * wanted) - mean_b**2, 0.0)
    covariance = _smooth(made * wanted) - mean_a * mean_b
    first, second = STABILIZERS
    likeness = (2 * mean_a * mean_b + first) * (2 * covariance + second)
    scale = (mean_a**2 + mean_b**2 + first) * (variance_a + variance_b + second)
    return float((likeness / scale).mean())


def _l1(made: Values, wanted: Values) -> float:
    return float(np.abs(made - wanted).mean())


def _mirrored(values: Values) -> Values:
    reach = WINDOW // 2
    return np.pad(values, ((0, 0), (reach, reach), (reach, reach)), mode="reflect")


def _smooth(values: Values) -> Values:
    """Average over windows with Gaussian weights, along both axes one after the other."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-((offsets / SIGMA) ** 2) / 2)
    for axis in (1, 2):
        count = values.shape[axis] - WINDOW + 1
        shifted = [values.take(range(i, i + count), axis) for i in range(WINDOW)]
        values = np.tensordot(weights / weights.sum(), np.stack(shifted), axes=1)
    return values
