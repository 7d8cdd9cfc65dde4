"""A comparison as one HTML page without any other file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiongraft.errors import VisiongraftError
from visiongraft.inputs import IMAGES
from visiongraft.pages.figures import draw_lines, new_figure
from visiongraft.pages.parts import (
    Figure,
    Gallery,
    GalleryImage,
    Lines,
    Part,
    Section,
    Table,
    data_uri,
)
from visiongraft.pages.writing import render_page

if TYPE_CHECKING:
    from visiongraft.comparing.report import Against, ModelComparison


def comparison_page(found: ModelComparison) -> str:
    """Return a comparison as a page of HTML; everything from data is escaped.

    Models whose name is that of a run folder have curves.
    """
    columns, rows = found.table()
    sections = [
        Section("verdict", "In short", [Lines([*found.warnings, *found.statements(images=False)])]),
        Section("values", "Settings and metrics", [Table(columns, rows)]),
    ]
    curves = list(_curves(found))
    if curves:
        sections.append(Section("curves", "Curves", curves))
    for i, each in enumerate(found.against):
        parts = list(_differing(each, found.models[0].name))
        if parts:
            title = f"Images on which {each.name} differs most"
            sections.append(Section(f"images_{i + 1}", title, parts))
    names = ", ".join(model.name for model in found.models)
    return render_page(f"Comparison of {len(found.models)} models", sections, [names])


def _curves(found: ModelComparison) -> Iterator[Part]:
    histories = {model.name: _history(Path(model.name)) for model in found.models}
    known = {name: history for name, history in histories.items() if history}
    if not known:
        return
    wanted = {
        found.headline: ("validation", found.headline, f"{found.headline} on validation images"),
        "training loss": ("train", "loss", "Loss of training"),
        "validation loss": ("validation_loss", "loss", "Loss on validation images"),
    }
    for label, (part, key, caption) in wanted.items():
        lines = {}
        for name, history in known.items():
            values = [record.get(part, {}).get(key) for record in history]
            if any(value is not None for value in values):
                lines[name] = ([record["epoch"] + 1 for record in history], values)
        if lines:
            axes = new_figure("epoch", label)
            draw_lines(axes, lines)
            axes.xaxis.ticker.min_interval = 1
            yield Figure(axes, caption)


def _history(run: Path) -> list[dict[str, Any]]:
    """Return the records of a run's epochs; none if it is no run folder."""
    try:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return []


def _differing(each: Against, first: str) -> Iterator[Part]:
    if each.images:
        yield Table(["image", first, each.name], each.images)
    shown = []
    for name, one, other in each.images:
        if Path(name).is_file():
            try:
                image = IMAGES.array(Path(name), name)
            except VisiongraftError:
                continue
            caption = [Path(name).name, f"{first}: {one:.3g}", f"{each.name}: {other:.3g}"]
            shown.append(GalleryImage(data_uri(image), caption))
    if shown:
        yield Gallery(shown)
