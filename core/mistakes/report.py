"""What was found about the labels of a dataset, as values, a table, words and a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from visiongraft.data.report import count_and_name
from visiongraft.data.samples import Samples
from visiongraft.errors import escape_unprintable
from visiongraft.html import html_table
from visiongraft.mistakes.page import mistakes_page

COLUMNS = (
    "rank",
    "image",
    "split",
    "label",
    "suggested",
    "quality",
    "likely_wrong",
    "near_duplicates",
)
LISTED = 20  # labels that are printed


Draw = Callable[[NDArray[np.uint8], Any], PillowImage.Image]


@dataclass(frozen=True)
class RatedLabel:
    """The label of one image.

    Attributes:
        image: Path of the file, or position of the image.
        split: ``"training"`` or ``"validation"``.
        position: Position within the readable images of the split.
        label: The given class, or the given label in words.
        suggested: The most probable class or, of labels such as boxes, what is likely wrong.
        quality: Probability of the given class, or another rating of the label, from 0 to 1.
        likely_wrong: Whether the label is likely wrong.
        near_duplicates: Names of images that are nearly the same.
    """

    image: str
    split: str
    position: int
    label: str
    suggested: str
    quality: float
    likely_wrong: bool
    near_duplicates: tuple[str, ...] = ()


@dataclass(frozen=True)
class NearDuplicate:
    """Two images that are nearly the same to the backbone.

    Attributes:
        images: Both.
        splits: The split of each.
        labels: The class of each.
        distance: Cosine distance of their embeddings.
    """

    images: tuple[str, str]
    splits: tuple[str, str]
    labels: tuple[str, str]
    distance: float

    @property
    def contradicts(self) -> bool:
        """Whether the labels differ, so that one of them is wrong."""
        return self.labels[0] != self.labels[1]

    @property
    def leaks(self) -> bool:
        """Whether the images are in different splits, so that validation flatters."""
        return self.splits[0] != self.splits[1]

    def __str__(self) -> str:
        (one, other), remarks = self.images, []
        if self.contradicts:
            remarks.append(f"labels {self.labels[0]} and {self.labels[1]}")
        if self.leaks:
            remarks.append("in both splits")
        return f"{one} ~ {other}" + (f" ({', '.join(remarks)})" if remarks else "")


@dataclass(frozen=True)
class Mistakes:
    """Labels of a dataset, the most doubtful first; ``print`` shows the first of them.

    Attributes:
        backbone: What computed the features.
        labels: All labels, by rising quality.
        near_duplicates: Pairs of images, those with different labels first.
        left_out: What was not looked at, one line each.
        samples: The images by split, for the page.
        draw: Draws a target on an image, for the page; ``None`` for classes of whole images.
    """

    backbone: str
    labels: tuple[RatedLabel, ...]
    near_duplicates: tuple[NearDuplicate, ...]
    left_out: tuple[str, ...]
    samples: dict[str, Samples] = field(repr=False, compare=False)
    draw: Draw | None = field(default=None, repr=False, compare=False)

    @property
    def wrong(self) -> list[RatedLabel]:
        """The labels that are likely wrong, the most doubtful first."""
        return [each for each in self.labels if each.likely_wrong]

    def to_json(self) -> dict[str, Any]:
        """Return all values but the images as JSON values."""
        return {
            "backbone": self.backbone,
            "images": len(self.labels),
            "likely_wrong": len(self.wrong),
            "labels": [asdict(each) for each in self.labels],
            "near_duplicates": [asdict(each) for each in self.near_duplicates],
            "left_out": list(self.left_out),
        }

    def to_csv(self) -> str:
        """Return a table of all labels, the most doubtful first, with a row of column names."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for rank, each in enumerate(self.labels, 1):
            row = (rank, each.image, each.split, each.label, each.suggested, f"{each.quality:.6f}")
            writer.writerow((*row, int(each.likely_wrong), "; ".join(each.near_duplicates)))
        return text.getvalue()

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return column titles and rows: the labels that are likely wrong, at most 20."""
        rows = [
            [each.image, each.label, each.suggested, f"{each.quality:.3f}"]
            for each in self.wrong[:LISTED]
        ]
        return ["image", "label", "suggested", "quality"], rows

    def statements(self) -> Iterator[str]:
        """Put in words what was found."""
        how = "probes on features of " if self.draw is None else ""
        yield f"{len(self.wrong)} of {len(self.labels)} labels are likely wrong, by {how}{self.backbone}"
        if len(self.wrong) > LISTED:
            yield f"{len(self.wrong) - LISTED} more are not shown"
        pairs = self.near_duplicates
        for what, chosen in (
            ("near-duplicates have different labels", [p for p in pairs if p.contradicts]),
            ("near-duplicates are in both splits", [p for p in pairs if p.leaks]),
            ("pairs of images are near-duplicates", list(pairs)),
        ):
            if chosen:
                yield count_and_name(what, tuple(map(str, chosen)))
        yield from self.left_out

    def html(self) -> str:
        """Return a page of HTML with the images, which needs no other file."""
        return mistakes_page(self)

    def _repr_html_(self) -> str:
        statements = html_table([""], [[line] for line in self.statements()])
        return html_table(*self.table()) + statements

    def __str__(self) -> str:
        columns, rows = self.table()
        lines = ["  ".join(row) for row in ([columns, *rows] if rows else [])]
        return "\n".join(map(escape_unprintable, [*lines, *self.statements()]))
