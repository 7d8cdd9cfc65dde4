"""What the readers of all formats give: images with boxes and label names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from visiongraft.data.samples import Samples
from visiongraft.plugins.detection.objects import Annotation, AnnotationTally


@dataclass(frozen=True)
class BoxSplit:
    """Images and what is annotated on them.

    Attributes:
        samples: The images; their own targets are not used.
        annotations: One for each.
    """

    samples: Samples
    annotations: Sequence[Annotation]


@dataclass(frozen=True)
class BoxDataset:
    """A dataset as it was found.

    Attributes:
        splits: By ``"train"``, ``"validation"`` and ``"test"``, those that have images; a set
            that is not divided is all ``"train"``.
        names: All label names, those without boxes too, in the order of their ids.
        warnings: One line on each thing that was passed over.
        tally: What was odd about single boxes.
        absent: Parts that the data name, and that are not there.
    """

    splits: dict[str, BoxSplit]
    names: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    tally: AnnotationTally = field(default_factory=AnnotationTally)
    absent: tuple[str, ...] = ()


BACKGROUND = frozenset({"background", "__background__", "_background_"})
PASSED_OVER = "boxes labeled as background were left out"


def is_background(name: str) -> bool:
    """Say whether a label name stands for what is no object."""
    return name.strip().lower() in BACKGROUND


def in_order(*lists: Sequence[str]) -> tuple[str, ...]:
    """Join lists of label names: first come, first numbered; background is none of them."""
    joined = dict.fromkeys(name for names in lists for name in names)
    return tuple(name for name in joined if not is_background(name))
