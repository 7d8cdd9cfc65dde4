"""Typed predictions of a detector; numpy only, so that a deployed model needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from visiongraft.errors import ArtifactError, name_some

SHOWN = 5  # things in one line


@dataclass(frozen=True)
class DetectedObject:
    """One thing in an image.

    Attributes:
        label: Its label name.
        score: How sure that is, in 0..1.
        box: Its x1, y1, x2, y2 in pixels of the image.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Detected:
    """What is in one image.

    Attributes:
        objects: The things found, the surest first; there may be none.
    """

    objects: tuple[DetectedObject, ...]

    def summary(self) -> str:
        """Name the surest things.

        Examples:
            >>> Detected((DetectedObject("dog", 0.91, (0.0, 0.0, 9.0, 9.0)),)).summary()
            'dog 0.91'
        """
        named = [f"{found.label} {found.score:.2f}" for found in self.objects]
        return name_some(named, SHOWN) or "nothing found"


def predictions(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> list[Detected]:
    """Give label names to a batch of decoded outputs.

    Args:
        arrays: ``boxes``, float (N, K, 4); ``scores``, float (N, K); ``labels``, int64 (N, K); and
            ``count``, int64 (N,): how many of the K places of each image hold a detection.
        metadata: ``labels``, the label names.

    Returns:
        One prediction per image.

    Raises:
        ArtifactError: The arrays do not fit each other or the label names.

    Examples:
        >>> import numpy as np
        >>> arrays = {
        ...     "boxes": np.array([[[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]]]),
        ...     "scores": np.array([[0.5, 0.0]]),
        ...     "labels": np.array([[1, -1]]),
        ...     "count": np.array([1]),
        ... }
        >>> predictions(arrays, {"labels": ["cat", "dog"]})[0].objects
        (DetectedObject(label='dog', score=0.5, box=(1.0, 2.0, 3.0, 4.0)),)
    """
    names = list(metadata["labels"])
    boxes, scores, labels = arrays["boxes"], arrays["scores"], arrays["labels"]
    counts = arrays["count"]
    images, places = scores.shape
    if boxes.shape != (images, places, 4) or labels.shape != scores.shape:
        raise ArtifactError(
            f"the model gives boxes {boxes.shape}, scores {scores.shape} and labels "
            f"{labels.shape}, which do not fit; its file or folder is damaged"
        )
    if counts.shape != (images,) or ((counts < 0) | (counts > places)).any():
        raise ArtifactError(
            f"the model counts {counts.tolist()} detections in {places} places; its file or folder "
            "is damaged"
        )
    found = []
    for image, count in enumerate(counts.tolist()):
        own = labels[image, :count]
        odd = own[(own < 0) | (own >= len(names))]
        if odd.size:
            raise ArtifactError(
                f"the model decides on class id {odd[0]} for {len(names)} label names; its file or "
                "folder is damaged"
            )
        found.append(
            Detected(tuple(_object(names, boxes, scores, labels, image, i) for i in range(count)))
        )
    return found


def _object(
    names: list[str],
    boxes: NDArray[Any],
    scores: NDArray[Any],
    labels: NDArray[Any],
    image: int,
    place: int,
) -> DetectedObject:
    x1, y1, x2, y2 = (float(value) for value in boxes[image, place])
    name = names[int(labels[image, place])]
    return DetectedObject(name, float(scores[image, place]), (x1, y1, x2, y2))
