"""Five-point alignment: rotate, scale and shift a face to the position that face networks expect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image as PillowImage

from visiongraft.data.decode import printable
from visiongraft.data.manifest import find_base
from visiongraft.data.names import find_listed
from visiongraft.data.parsing import read_table
from visiongraft.data.samples import Image, WrappedSamples
from visiongraft.errors import DataError, one_line

SIDE = 112
# Positions of the eyes, the nose and the corners of the mouth in 112 x 112 pixels: the template of
# ArcFace (Deng et al., 2019) and its predecessors.
TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
COLUMNS = tuple(f"{point}_{axis}" for point in POINTS for axis in "xy")

Landmarks = tuple[float, ...]  # x and y of the five points, in pixels


def similarity_transform(source: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """Compute the rotation, scale and translation that map points best, by least squares.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    1991. Reflections are excluded.

    Args:
        source: (N, 2) points.
        target: (N, 2) points to map them to.

    Returns:
        (2, 3) matrix ``[sR | t]``: a point p is mapped to ``matrix @ [*p, 1]``.

    Raises:
        DataError: The points are not finite, or all the same.

    Examples:
        >>> square = [[0, 0], [1, 0], [1, 1], [0, 1]]
        >>> moved = [[3, 5], [5, 5], [5, 7], [3, 7]]
        >>> similarity_transform(square, moved).round(6).tolist()
        [[2.0, 0.0, 3.0], [0.0, 2.0, 5.0]]
    """
    points, goals = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if not (np.isfinite(points).all() and np.isfinite(goals).all()):
        raise DataError("landmarks are not finite numbers")
    center, goal_center = points.mean(0), goals.mean(0)
    spread = float(((points - center) ** 2).sum())
    if spread < 1e-9:
        raise DataError("landmarks are all at the same point")
    left, scales, right = np.linalg.svd((goals - goal_center).T @ (points - center))
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = left @ np.diag(signs) @ right
    matrix = rotation * float((scales * signs).sum()) / spread
    shift = goal_center - matrix @ center
    return np.concatenate([matrix, shift[:, None]], axis=1)


def align(image: Image, landmarks: ArrayLike, side: int = SIDE) -> Image:
    """Align a face to the template.

    Args:
        image: uint8 (H, W, C).
        landmarks: Five points (x, y) in pixels, where (0, 0) is the center of the first pixel: the
            eye on the left side of the image, the eye on the right, the nose, and the left and
            right corner of the mouth; of shape (5, 2), or as ten numbers.
        side: Height and width of the result in pixels.

    Returns:
        uint8 (side, side, C); black outside of the image.

    Raises:
        DataError: The landmarks are not five points, not finite, or all at the same point.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.size != 2 * len(POINTS):
        raise DataError(f"alignment needs five points, not an array of shape {points.shape}")
    points = points.reshape(-1, 2)
    template = (TEMPLATE + 0.5) * side / SIDE - 0.5
    matrix = similarity_transform(points, template)
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if scale < 0.5:  # bilinear interpolation alone would skip pixels of a large face
        factor = int(1 / scale)
        reduced = np.asarray(_pillow(image).reduce(factor))
        image = reduced.reshape(*reduced.shape[:2], image.shape[2])
        matrix = similarity_transform((points + 0.5) / factor - 0.5, template)
    return _warped(image, matrix, side)


@dataclass(frozen=True)
class AlignedSamples(WrappedSamples):
    """Images that are aligned when they are loaded.

    Attributes:
        base: The images.
        landmarks: Ten numbers per image, see ``align``.
    """

    landmarks: tuple[Landmarks, ...]

    def content(self, index: int) -> bytes | None:
        """Return ``None``: no file contains the aligned image."""
        return None

    def load(self, index: int, channels: int = 3) -> Image:
        try:
            return align(self.base.load(index, channels), self.landmarks[index])
        except DataError as error:
            if str(error).startswith(self.name(index)):
                raise
            raise DataError(f"{self.name(index)}: {error}") from error

    def subset(self, indices: Sequence[int]) -> AlignedSamples:
        """Return some of the samples, in the given order."""
        points = tuple(self.landmarks[i] for i in indices)
        return AlignedSamples(self.base.subset(indices), points)


def read_landmarks(path: Path, required: bool = True) -> dict[Path, Landmarks]:
    """Read landmarks from a table.

    Args:
        path: A CSV file with the columns ``path`` and ``left_eye_x``, ``left_eye_y``,
            ``right_eye_x``, ..., ``mouth_right_y``, in pixels; paths are relative to its folder, or
            see ``manifest.find_base``; and see ``names.spellings``.
        required: Whether to raise an error if none of the landmark columns exists.

    Returns:
        Ten numbers for each image; empty for a table without landmarks.

    Raises:
        DataError: The table is malformed, or lacks some of the columns.
    """
    if path.suffix.lower() != ".csv":
        return {}
    shown = printable(path)
    columns, rows = read_table(path)
    missing = [name for name in ("path", *COLUMNS) if name not in columns]
    if not required and all(name in missing for name in COLUMNS):
        return {}
    if missing:
        raise DataError(
            f"{shown} lacks the column {missing[0]!r}; required are {', '.join(COLUMNS)}"
        )
    base = find_base(path, [row["path"] for _, row in rows])
    found: dict[Path, Landmarks] = {}
    for number, row in rows:
        try:
            points = tuple(float(row[column]) for column in COLUMNS)
        except ValueError as error:
            raise DataError(
                f"{shown}, row {number}: landmarks must be ten numbers ({one_line(error)})"
            ) from None
        image = find_listed(base, row["path"]) or base / row["path"]
        if found.setdefault(image, points) != points:
            raise DataError(
                f"{shown}, row {number}: {printable(row['path'])} is listed twice, with different "
                "landmarks; remove one of the rows"
            )
    return found


def _warped(image: Image, matrix: NDArray[np.float64], side: int) -> Image:
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    # Pillow's origin is the corner of the first pixel, that of landmarks is its center.
    shift = inverse @ [-0.5, -0.5, 1] + 0.5
    values = (*inverse[0, :2], shift[0], *inverse[1, :2], shift[1])
    planes = [
        np.asarray(
            PillowImage.fromarray(np.ascontiguousarray(image[..., channel])).transform(
                (side, side),
                PillowImage.Transform.AFFINE,
                values,
                resample=PillowImage.Resampling.BILINEAR,
            )
        )
        for channel in range(image.shape[2])
    ]
    return np.stack(planes, axis=2)


def _pillow(image: Image) -> PillowImage.Image:
    return PillowImage.fromarray(image[..., 0] if image.shape[2] == 1 else image)
