"""What an explanation is of: one number that a network computes for each image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from visiongraft.errors import OptionError, near_matches

if TYPE_CHECKING:
    from visiongraft.backbone import Features

REGIONS = 3  # classes of a segmented image that are explained unless one is named


@dataclass(frozen=True)
class Explained:
    """One result of an image that can be explained.

    Attributes:
        name: What it is, such as a class name.
        score: Computes the number that explanations are of, (N,), from the features of a batch and what
            ``Task.decode`` receives of it, with torch operators; higher is more of it.
        box: Corners of the part of the image that the result is about, as fractions of its width and
            height; ``None`` for the whole.
        measure: Computes what checks measure in place of the score, such as the probability for a logit.
    """

    name: str
    score: Callable[[Features, Any], Tensor]
    box: tuple[float, float, float, float] | None = None
    measure: Callable[[Features, Any], Tensor] | None = None


def explain_logits(
    logits_of: Callable[[Any], Tensor], outputs: Any, names: Sequence[str], wanted: str | None
) -> Iterator[Explained]:
    """Yield what class logits of one image allow to explain.

    Args:
        logits_of: Returns logits (N, C), or (N, C, h, w) of each pixel, of outputs.
        outputs: Those of the image.
        names: The C class names.
        wanted: The class to explain; by default those that are predicted.

    Raises:
        OptionError: There is no such class.
    """
    logits = logits_of(outputs).detach()[0]
    if wanted is not None and wanted not in names:
        raise OptionError(f"target={wanted!r} is not a class{near_matches(wanted, names)}")
    if logits.ndim == 1:
        index = names.index(wanted) if wanted is not None else int(logits.argmax())
        yield Explained(
            names[index],
            lambda features, found: logits_of(found)[:, index],
            measure=lambda features, found: logits_of(found).softmax(1)[:, index],
        )
        return
    predicted = logits.argmax(0)
    sizes = torch.bincount(predicted.flatten(), minlength=len(names))
    found = (
        [names.index(wanted)] if wanted is not None else sizes.argsort(descending=True)[:REGIONS]
    )
    for index in map(int, found):
        if sizes[index]:
            yield _region(logits_of, names[index], index, (predicted == index).float())


def _region(logits_of: Callable[[Any], Tensor], name: str, index: int, mask: Tensor) -> Explained:
    def inside(values: Tensor) -> Tensor:
        return (values[:, index] * mask).sum((1, 2)) / mask.sum()

    def score(logits: Tensor) -> Tensor:
        """Of two classes the difference, because the logit of a background may be a constant."""
        return inside(logits - logits.flip(1) if logits.shape[1] == 2 else logits)

    return Explained(
        name,
        lambda features, outputs: score(logits_of(outputs)),
        measure=lambda features, outputs: inside(logits_of(outputs).softmax(1)),
    )
