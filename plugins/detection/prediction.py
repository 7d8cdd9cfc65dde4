"""Typed predictions of a detector; numpy only, so that a deployed model needs no PyTorch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from visiongraft.errors import ArtifactError, name_some
from visiongraft.html import html_table
from visiongraft.task_contract.narrowing import ScoreThreshold, least_score

SHOWN = 8  # classes in one line
LEAST_SCORE = 0.3  # of what is said to be there; a detector returns many boxes of low confidence


@dataclass(frozen=True)
class DetectedObject:
    """One object in an image.

    Attributes:
        label: Its class name.
        score: Its confidence, in 0..1.
        box: Its x1, y1, x2, y2 in pixels of the image.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Detected:
    """The objects in one image.

    Attributes:
        objects: The objects found, sorted by score in descending order; may be empty.
    """

    objects: tuple[DetectedObject, ...]

    told_from: ClassVar[float] = LEAST_SCORE  # score of what ``summary`` names

    def summary(self) -> str:
        """Name what is there: classes with their numbers and highest scores, and how much is less sure.

        Examples:
            >>> box = (0.0, 0.0, 9.0, 9.0)
            >>> found = [("dog", 0.91), ("cat", 0.5), ("dog", 0.4), ("cow", 0.1)]
            >>> Detected(tuple(DetectedObject(label, score, box) for label, score in found)).summary()
            '2 dog (0.91), cat (0.50); 1 below 0.30'
        """
        if not self.objects:
            return "nothing found"
        sure = [each for each in self.objects if each.score >= self.told_from]
        best: dict[str, float] = {}
        for each in sure:
            best[each.label] = max(best.get(each.label, 0.0), each.score)
        counts = Counter(each.label for each in sure)
        named = [
            f"{f'{counts[name]} ' if counts[name] > 1 else ''}{name} ({score:.2f})"
            for name, score in sorted(best.items(), key=lambda item: -item[1])
        ]
        line = name_some(named, SHOWN) or "nothing found"
        less = len(self.objects) - len(sure)
        return f"{line}; {less} below {self.told_from:.2f}" if less else line

    def contents(self) -> str:
        """Name what is there without scores, as of objects that were annotated.

        Examples:
            >>> box = (0.0, 0.0, 9.0, 9.0)
            >>> Detected(tuple(DetectedObject(n, 1.0, box) for n in ("dog", "cat", "dog"))).contents()
            '2 dog, cat'
        """
        counts = Counter(each.label for each in self.objects)
        named = [f"{n} {name}" if n > 1 else name for name, n in counts.most_common()]
        return name_some(named, SHOWN) or "no object"

    def crops(self) -> list[tuple[str, tuple[float, float, float, float]]]:
        """Return the class of each object that ``summary`` names, and its box in pixels of the image."""
        return [(each.label, each.box) for each in self.objects if each.score >= self.told_from]

    def narrowed(self, score_threshold: ScoreThreshold | None, top: int | None) -> Detected:
        """Return the objects of at least a score, all of which ``summary`` then names, and the surest of them.

        Examples:
            >>> Detected((DetectedObject("dog", 0.91, (0.0, 0.0, 9.0, 8.0)),)).narrowed(0.95, None)
            Detected(objects=())
        """
        kept = [
            each for each in self.objects if each.score >= least_score(score_threshold, each.label)
        ]
        found = Detected(tuple(kept[:top]))
        if score_threshold is not None:
            object.__setattr__(found, "told_from", 0.0)  # the user has decided what is sure
        return found

    def _repr_html_(self) -> str:
        rows = [(each.label, each.score, *each.box) for each in self.objects]
        return html_table(["label", "score", "x1", "y1", "x2", "y2"], rows, self.summary())

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of a table: label, score and corners in pixels of each object.

        Examples:
            >>> Detected((DetectedObject("dog", 0.91, (0.0, 0.0, 9.0, 8.0)),)).rows()
            [{'label': 'dog', 'score': 0.91, 'x1': 0.0, 'y1': 0.0, 'x2': 9.0, 'y2': 8.0}]
        """
        corners = ("x1", "y1", "x2", "y2")
        return [
            {"label": o.label, "score": o.score, **dict(zip(corners, o.box, strict=True))}
            for o in self.objects
        ]


def predictions(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> list[Detected]:
    """Convert a batch of decoded outputs to typed predictions.

    Args:
        arrays: ``boxes``, float (N, K, 4); ``scores``, float (N, K); ``labels``, int64 (N, K); and
            ``count``, int64 (N,): the number of detections of each image.
        metadata: ``class_names``, by class id.

    Returns:
        One prediction per image.

    Raises:
        ArtifactError: The arrays do not fit each other or the class names.

    Examples:
        >>> import numpy as np
        >>> arrays = {
        ...     "boxes": np.array([[[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]]]),
        ...     "scores": np.array([[0.5, 0.0]]),
        ...     "labels": np.array([[1, -1]]),
        ...     "count": np.array([1]),
        ... }
        >>> predictions(arrays, {"class_names": ["cat", "dog"]})[0].objects
        (DetectedObject(label='dog', score=0.5, box=(1.0, 2.0, 3.0, 4.0)),)
    """
    names = list(metadata["class_names"])
    boxes, scores, labels = arrays["boxes"], arrays["scores"], arrays["labels"]
    counts = arrays["count"]
    images, slots = scores.shape
    if boxes.shape != (images, slots, 4) or labels.shape != scores.shape:
        raise ArtifactError(
            f"the model returned boxes {boxes.shape}, scores {scores.shape} and labels "
            f"{labels.shape}, which do not match; its file or folder is damaged"
        )
    if counts.shape != (images,) or ((counts < 0) | (counts > slots)).any():
        raise ArtifactError(
            f"the model counts {counts.tolist()} detections in {slots} slots; its file or folder "
            "is damaged"
        )
    detected = []
    for image, count in enumerate(counts.tolist()):
        own = labels[image, :count]
        odd = own[(own < 0) | (own >= len(names))]
        if odd.size:
            raise ArtifactError(
                f"the model predicts class id {odd[0]} for {len(names)} class names; its file or "
                "folder is damaged"
            )
        found = zip(own, scores[image, :count].tolist(), boxes[image, :count].tolist(), strict=True)
        detected.append(
            Detected(tuple(DetectedObject(names[i], score, tuple(box)) for i, score, box in found))
        )
    return detected
