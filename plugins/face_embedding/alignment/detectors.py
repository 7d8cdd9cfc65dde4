"""Detect and align faces, with any callable as the detector.

A detector takes an image, uint8 (H, W, C), and returns ``boxes``, float (N, 4) as left, top, right,
bottom, and ``landmarks``, float (N, 5, 2), both in pixels. A package registers a detector in the
entry-point group ``visiongraft.face_detectors`` as a function that takes one string (such as a
folder with weights) and returns the detector; users select it as ``"name:string"``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from visiongraft.data.decode import decode_file, printable
from visiongraft.data.listing import list_images
from visiongraft.data.samples import Image
from visiongraft.errors import DataError, PluginError, near_matches
from visiongraft.plugins.face_embedding.alignment.landmarks import SIDE, align
from visiongraft.plugins.face_embedding.formats.lfw import LISTS
from visiongraft.registry.functions import functions

GROUP = "visiongraft.face_detectors"

Detector = Callable[[Image], tuple[NDArray[Any], NDArray[Any]]]


@dataclass(frozen=True)
class AlignedFolder:
    """The result of ``align_folder``.

    Attributes:
        written: Number of images written.
        without_face: Names of the images without a face, which are not written.
        several_faces: Names of the images with several faces, of which the largest was aligned.
    """

    written: int
    without_face: tuple[str, ...]
    several_faces: tuple[str, ...]


def find_detector(detector: str | Detector) -> Detector:
    """Return a detector by its name.

    Args:
        detector: A detector, which is returned unchanged; or ``"name"`` or ``"name:string"`` of a
            registered one, such as ``"mtcnn:FOLDER"`` with the folder of its weights.

    Returns:
        The detector.

    Raises:
        PluginError: No package registers a detector of that name, or it cannot be loaded, or several
            do.
    """
    if not isinstance(detector, str):
        return detector
    name, _, argument = detector.partition(":")
    known = functions(GROUP)
    if name not in known:
        raise PluginError(f"no detector {name!r}{near_matches(name, known)}")
    found: Detector = known[name].load(f"detector {name!r}")(argument)
    return found


def largest_face(image: Image, detector: Detector) -> tuple[NDArray[np.float64], int]:
    """Detect the largest face in an image.

    Args:
        image: uint8 (H, W, C).
        detector: Detects boxes and landmarks.

    Returns:
        The landmarks of the largest face, (5, 2), and the number of faces.

    Raises:
        DataError: There is no face, or the results of the detector have other shapes.
    """
    boxes, landmarks = (np.asarray(found, dtype=np.float64) for found in detector(image))
    if not len(boxes):
        raise DataError("no face was found")
    if boxes.shape != (len(boxes), 4) or landmarks.shape != (len(boxes), 5, 2):
        raise DataError(
            f"the detector returned boxes {boxes.shape} and landmarks {landmarks.shape}, not "
            "(N, 4) and (N, 5, 2)"
        )
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return landmarks[int(areas.argmax())], len(boxes)


def align_face(image: Image, detector: str | Detector, side: int = SIDE) -> Image:
    """Detect the largest face in an image and align it.

    Args:
        image: uint8 (H, W, C).
        detector: See ``find_detector``.
        side: Height and width of the result in pixels.

    Returns:
        uint8 (side, side, C).

    Raises:
        DataError: There is no face.
    """
    return align(image, largest_face(image, find_detector(detector))[0], side)


def align_folder(
    source: str | Path, target: str | Path, detector: str | Detector, side: int = SIDE
) -> AlignedFolder:
    """Align all images of a folder and write them as PNG, with the same subfolders and names.

    Lists of pairs and people, in the format of LFW, are copied.

    Args:
        source: Folder of images, in any subfolders.
        target: Folder to write to; it must not be inside ``source``.
        detector: See ``find_detector``.
        side: Height and width of the results in pixels.

    Returns:
        The number of written images, and the images without a face or with several faces.

    Raises:
        DataError: There are no images, or one cannot be read.
    """
    source, target, find = Path(source), Path(target), find_detector(detector)
    if target.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{printable(target)} is inside {printable(source)}; choose another folder")
    paths = list_images(source)
    if not paths:
        raise DataError(f"{printable(source)} contains no images")
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
    for list_file in filter(Path.is_file, map(source.joinpath, LISTS)):
        shutil.copy(list_file, target / list_file.name)
    return AlignedFolder(len(paths) - len(without), tuple(without), tuple(several))
