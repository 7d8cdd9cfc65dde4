"""Finding faces before they are aligned: any callable, by name or passed in.

A detector takes an image, uint8 (H, W, C), and gives ``boxes``, float (N, 4) as left, top, right,
bottom, and ``landmarks``, float (N, 5, 2), both in pixels. A package registers one in the entry point
group ``visiongraft.face_detectors``, as a function from one text (such as a folder with weights) to
the detector; ``"name:text"`` then asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from visiongraft.data.decode import decode_file, printable
from visiongraft.data.listing import list_images
from visiongraft.data.samples import Image
from visiongraft.errors import DataError, PluginError, near_matches, type_and_message
from visiongraft.plugins.face_embedding.alignment.landmarks import SIDE, align

GROUP = "visiongraft.face_detectors"

Detector = Callable[[Image], tuple[NDArray[Any], NDArray[Any]]]


@dataclass(frozen=True)
class AlignedFolder:
    """What ``align_folder`` did.

    Attributes:
        written: How many images were written.
        without_face: Names of the images in which no face was found; they are left out.
        several_faces: Names of those with more than one, of which the largest was taken.
    """

    written: int
    without_face: tuple[str, ...]
    several_faces: tuple[str, ...]


def find_detector(what: str | Detector) -> Detector:
    """Find a detector.

    Args:
        what: A detector, or ``"name"`` or ``"name:text"`` of one that a package registers, such as
            ``"mtcnn:FOLDER"`` with the folder of its weights.

    Returns:
        The detector.

    Raises:
        PluginError: No package registers one of that name, or it cannot be made.
    """
    if not isinstance(what, str):
        return what
    name, _, text = what.partition(":")
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        raise PluginError(f"no detector {name!r}{near_matches(name, points)}")
    try:
        make = points[name].load()
    except Exception as error:  # a stranger's module may raise anything
        cause = type_and_message(error)
        raise PluginError(f"detector {name!r} cannot be loaded: {cause}") from error
    detector: Detector = make(text)
    return detector


def largest_face(image: Image, detector: Detector) -> tuple[NDArray[np.float64], int]:
    """Find the largest face of an image.

    Args:
        image: uint8 (H, W, C).
        detector: Finds boxes and landmarks.

    Returns:
        Its landmarks, (5, 2), and how many faces there are.

    Raises:
        DataError: There is none, or the detector's results have other shapes.
    """
    boxes, landmarks = (np.asarray(found, dtype=np.float64) for found in detector(image))
    if not len(boxes):
        raise DataError("no face was found")
    if boxes.shape != (len(boxes), 4) or landmarks.shape != (len(boxes), 5, 2):
        raise DataError(
            f"the detector gave boxes {boxes.shape} and landmarks {landmarks.shape}, not (N, 4) and "
            "(N, 5, 2)"
        )
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return landmarks[int(areas.argmax())], len(boxes)


def align_face(image: Image, detector: str | Detector, side: int = SIDE) -> Image:
    """Find the largest face of an image and align it.

    Args:
        image: uint8 (H, W, C).
        detector: See ``find_detector``.
        side: Height and width to produce, in pixels.

    Returns:
        uint8 (side, side, C).

    Raises:
        DataError: There is no face.
    """
    return align(image, largest_face(image, find_detector(detector))[0], side)


def align_folder(
    source: str | Path, target: str | Path, detector: str | Detector, side: int = SIDE
) -> AlignedFolder:
    """Align all images of a folder into another one, with the same folders and names, as PNG.

    Args:
        source: Holds images, in any folders.
        target: Where to; it must not lie within ``source``.
        detector: See ``find_detector``.
        side: Height and width to produce, in pixels.

    Returns:
        What was done.

    Raises:
        DataError: There is no image, or one cannot be read.
    """
    source, target, find = Path(source), Path(target), find_detector(detector)
    if target.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{printable(target)} lies within {printable(source)}; choose another one")
    paths = list_images(source)
    if not paths:
        raise DataError(f"{printable(source)} holds no images")
    without, several = [], []
    for path in paths:
        name = printable(path.relative_to(source))
        image = decode_file(path)
        try:
            landmarks, faces = largest_face(image, find)
        except DataError as error:
            if "no face" not in str(error):
                raise DataError(f"{name}: {error}") from error
            without.append(name)
            continue
        if faces > 1:
            several.append(name)
        file = (target / path.relative_to(source)).with_suffix(".png")
        file.parent.mkdir(parents=True, exist_ok=True)
        PillowImage.fromarray(align(image, landmarks, side)).save(file)
    return AlignedFolder(len(paths) - len(without), tuple(without), tuple(several))
