"""What a comparison of models found, as values and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from visiongraft.comparing.page import comparison_page
from visiongraft.errors import escape_unprintable
from visiongraft.html import html_table
from visiongraft.training.measuring.margins import Estimate


@dataclass(frozen=True)
class Compared:
    """One model.

    Attributes:
        name: Its folder, or its position.
        metrics: Its metrics that are numbers.
        headline: The headline metric.
        intervals: Each metric that has an interval, the headline metric too.
        evaluation: What its run measured on further datasets, such as ``anchors.accuracy``.
    """

    name: str
    metrics: Mapping[str, float]
    headline: Estimate
    intervals: Mapping[str, Estimate]
    evaluation: Mapping[str, float]


@dataclass(frozen=True)
class Against:
    """One model against the first.

    Attributes:
        name: The model.
        difference: Its headline metric minus that of the first model.
        differences: The same of each metric that has an interval.
        right_alone: Numbers of images on which the first model alone is right, and this one alone;
            ``None`` if images are not simply right or wrong.
        p_value: Of McNemar's exact test on these numbers.
        differing: Number of images on which the headline metric of the image alone differs.
        images: Those that differ most, with the values of the first model and of this one.
    """

    name: str
    difference: Estimate
    differences: Mapping[str, Estimate]
    right_alone: tuple[int, int] | None
    p_value: float | None
    differing: int
    images: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class ModelComparison:
    """Models on the same images; ``print`` shows all of it.

    Attributes:
        headline: Name of the headline metric.
        better: ``"higher"`` or ``"lower"``.
        images: Number of images.
        own: Names of the results of the user's own metrics.
        warnings: What is to be known about the images, such as that some were trained on.
        settings: Settings in which runs differ, with the value of each.
        models: Each model.
        against: Each model but the first, against the first.
    """

    headline: str
    better: str
    images: int
    own: tuple[str, ...]
    warnings: tuple[str, ...]
    settings: Mapping[str, tuple[str, ...]]
    models: tuple[Compared, ...]
    against: tuple[Against, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        return asdict(self)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return column titles and rows: settings that differ, the headline, and the other metrics."""
        columns = ["", *(model.name for model in self.models)]
        rows = [[name, *values] for name, values in self.settings.items()]
        measured = dict.fromkeys([self.headline, *(n for m in self.models for n in m.metrics)])
        rows += [[name, *(_metric(model, name) for model in self.models)] for name in measured]
        further = dict.fromkeys(name for model in self.models for name in model.evaluation)
        rows += [
            [name, *(_number(model.evaluation.get(name)) for model in self.models)]
            for name in further
        ]
        return columns, rows

    def statements(self, images: bool = True) -> Iterator[str]:
        """Put in words how each model differs from the first.

        Args:
            images: Whether to name the images that differ most.
        """
        yield f"measured on {self.images} images; intervals hold 95 %"
        first = self.models[0].name
        for each in self.against:
            yield f"{each.name} against {first}: {self.headline} {_signed(each.difference)}: {self._verdict(each)}"
            if each.right_alone is not None:
                one, other = each.right_alone
                yield (
                    f"  right alone: {first} on {one} images, {each.name} on {other} (McNemar's exact test: "
                    f"p = {each.p_value:.3g})"
                )
            for metric in self.own:
                if metric in each.differences:
                    change = each.differences[metric]
                    verdict = "cannot be distinguished" if _has_zero(change) else "differs"
                    yield f"  {metric} {_signed(change)}: {verdict}"
            if not images:
                continue
            for name, before, after in each.images:
                yield f"  {name}: {before:.3g} with {first}, {after:.3g} with {each.name}"
            if each.differing > len(each.images):
                yield f"  and {each.differing - len(each.images)} more images"

    def _verdict(self, each: Against) -> str:
        if _has_zero(each.difference):
            return "cannot be distinguished"
        return "better" if (each.difference.low > 0) == (self.better == "higher") else "worse"

    def html(self) -> str:
        """Return a page of HTML that needs no other file."""
        return comparison_page(self)

    def _repr_html_(self) -> str:
        statements = html_table([""], [[line] for line in self.statements()])
        return html_table(*self.table()) + statements

    def __str__(self) -> str:
        columns, rows = self.table()
        widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [columns, *rows]
        ]
        return "\n".join(map(escape_unprintable, [*lines, *self.statements()]))


def _metric(model: Compared, name: str) -> str:
    found = model.intervals.get(name)
    if found is None:
        return _number(model.metrics.get(name))
    return f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _has_zero(found: Estimate) -> bool:
    return found.low <= 0 <= found.high


def _signed(found: Estimate) -> str:
    return f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
