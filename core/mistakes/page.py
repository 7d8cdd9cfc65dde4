"""Likely wrong labels as one HTML page without any other file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from visiongraft.errors import VisiongraftError
from visiongraft.pages.parts import (
    Gallery,
    GalleryImage,
    Lines,
    Part,
    Section,
    Table,
    Text,
    data_uri,
)
from visiongraft.pages.writing import render_page

if TYPE_CHECKING:
    from visiongraft.mistakes.report import Mistakes, NearDuplicate, RatedLabel

SHOWN = 60  # images, and pairs
CHANNELS = 3
SIDE = 360  # of an image with its label drawn on it, in pixels


def mistakes_page(found: Mistakes) -> str:
    """Return the page; everything from data is escaped."""
    contents = (
        ("summary", "In short", [Lines(list(found.statements()))]),
        ("labels", "Labels that are likely wrong", list(_labels(found))),
        ("duplicates", "Near-duplicates", list(_near_duplicates(found))),
    )
    sections = [Section(name, title, parts) for name, title, parts in contents if parts]
    return render_page("Likely mistakes in labels", sections, [f"{len(found.labels)} images"])


def _labels(found: Mistakes) -> Iterator[Part]:
    wrong = found.wrong
    if not wrong:
        yield Text("No label is likely wrong.")
        return
    shown = []
    for each in wrong[:SHOWN]:
        image = _image(found, each)
        if image:
            doubt = f"{each.label}, or {each.suggested}?" if found.draw is None else each.suggested
            shown.append(GalleryImage(image, (doubt, each.image)))
    yield Gallery(shown)
    rows = [(e.image, e.split, e.label, e.suggested, e.quality) for e in wrong]
    yield Table(["image", "split", "label", "suggested", "quality"], rows, "All of them", True)


def _near_duplicates(found: Mistakes) -> Iterator[Part]:
    pairs = found.near_duplicates
    if not pairs:
        return
    by_name = {each.image: each for each in found.labels}
    shown = []
    for pair in pairs[:SHOWN]:
        images = [_image(found, by_name[name]) for name in pair.images]
        shown += [GalleryImage(image, _caption(pair, i)) for i, image in enumerate(images) if image]
    if len(pairs) > SHOWN:
        yield Text(f"The nearest {SHOWN} of {len(pairs)} pairs, those with different labels first.")
    yield Gallery(shown)
    rows = [(*p.images, *p.labels, *p.splits, p.distance) for p in pairs]
    columns = ["image", "other image", "label", "other label", "split", "other split", "distance"]
    yield Table(columns, rows, "All pairs", folded=True)


def _caption(pair: NearDuplicate, i: int) -> tuple[str, str, str]:
    return f"{pair.labels[i]}, {pair.splits[i]}", f"distance {pair.distance:.2g}", pair.images[i]


def _image(found: Mistakes, each: RatedLabel) -> str:
    """Return an image as a URI; nothing if it is no longer readable."""
    try:
        samples = found.samples[each.split]
        pixels = np.asarray(samples.load(each.position, CHANNELS))
        if found.draw is None:
            return data_uri(pixels)
        return data_uri(found.draw(pixels, samples.target(each.position)), SIDE)
    except VisiongraftError:
        return ""
