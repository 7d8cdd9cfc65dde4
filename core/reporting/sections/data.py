"""The data: sizes, classes, what was dropped, and images as the network sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from visiongraft.data.report import DataReport
from visiongraft.errors import VisiongraftError
from visiongraft.options import is_number
from visiongraft.pages.figures import draw_bars
from visiongraft.pages.parts import (
    Figure,
    Gallery,
    GalleryImage,
    Lines,
    Part,
    Table,
    Text,
    data_uri,
)
from visiongraft.reporting.batch import augmented
from visiongraft.reporting.contract import ReportSection
from visiongraft.saving.files import read_json
from visiongraft.task_contract.targets import describe_target
from visiongraft.training.batches.own_augmentation import training_transform
from visiongraft.training.resuming.run_folder import DATA_CHECK

SHOWN = 8  # images of the batch


class Data(ReportSection):
    """Sizes of the splits and classes, and what the check before training found."""

    name, title, position = "data", "Data", 20

    def parts(self) -> Iterator[Part]:
        facts = self.run.facts.get("data", {})
        plain = [(name, _plain(v)) for name, v in facts.items() if not isinstance(v, Mapping)]
        yield Table(["fact", "value"], plain)
        counts = {name: v for name, v in facts.items() if _counts(v)}
        for names in dict.fromkeys(tuple(v) for v in counts.values()):
            own = {name: list(v.values()) for name, v in counts.items() if tuple(v) == names}
            what = ", ".join(own)
            yield Figure(draw_bars(list(names), own, "count"), what[0].upper() + what[1:])
            rows = [[label, *(v[i] for v in own.values())] for i, label in enumerate(names)]
            yield Table(["name", *own], rows, "As a table", folded=True)
        yield from self._findings()

    def _findings(self) -> Iterator[Part]:
        try:
            stored = read_json(self.run.folder / DATA_CHECK)["report"]
            report = DataReport(**{name: _tuples(value) for name, value in stored.items()})
        except (VisiongraftError, KeyError, TypeError):
            yield Text(f"{DATA_CHECK} of the run cannot be read, so what was dropped is not shown.")
            return
        if report.warnings:
            yield Lines(report.warnings)
        else:
            yield Text(f"All {report.kind} were readable, and no image is in both splits.")
        if report.unreadable:
            rows = [[line] for line in report.unreadable]
            yield Table([report.kind], rows, f"Unreadable {report.kind}", folded=True)


class BatchImages(ReportSection):
    """Training images after augmentation, as the network sees them."""

    name, title, position = "batch", "Images as the network sees them", 30

    def parts(self) -> Iterator[Part]:
        run = self.run
        if not run.training or not run.task.inputs.has_size:
            return
        network, preprocess = run.network, run.network.preprocess
        lost = run.config.augment is not None and run.augment is None
        transform = training_transform(run.task, preprocess.config, run.augment)
        transform = None if lost else transform
        shown = []
        for index, image in augmented(network, run.training, transform, run.config.seed, SHOWN):
            label = describe_target(run.task, run.training.target(index))
            name = run.name(run.training, index)
            shown.append(GalleryImage(data_uri(image), (label, name)))
        height, width = preprocess.config.size
        how = "with" if transform is not None else "without"
        yield Text(
            f"Training images of {height}x{width} pixels, {how} augmentation, resized by "
            f"{preprocess.config.resize!r}."
        )
        if run.config.augment is not None:
            missing = ", which is not known here" if lost else ""
            yield Text(f"Augmented by the user's own {run.config.augment}{missing}.")
        yield Gallery(shown)


def _counts(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(map(is_number, value.values()))


def _plain(value: Any) -> str | float:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if is_number(value) else str(value)


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(one) for one in value)
    return value
