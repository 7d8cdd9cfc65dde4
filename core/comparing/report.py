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
        evaluation: What its run measured on further datasets, such as ``anchors.accuracy``.
    """

    name: str
    metrics: Mapping[str, float]
    headline: Estimate
    evaluation: Mapping[str, float]


@dataclass(frozen=True)
class Against:
    """One model against the first.

    Attributes:
        name: The model.
        difference: Its headline metric minus that of the first model.
        right_alone: Numbers of images on which the first model alone is right, and this one alone;
            ``None`` if images are not simply right or wrong.
        p_value: Of McNemar's exact test on these numbers.
        differing: Number of images on which the headline metric of the image alone differs.
        images: Those that differ most, with the values of the first model and of this one.
    """

    name: str
    difference: Estimate
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
        warnings: What is to be known about the images, such as that some were trained on.
        settings: Settings in which runs differ, with the value of each.
        models: Each model.
        against: Each model but the first, against the first.
    """

    headline: str
    better: str
    images: int
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
        rows.append([self.headline, *(_with_interval(model.headline) for model in self.models)])
        for kind in ("metrics", "evaluation"):
            found: list[Mapping[str, float]] = [getattr(model, kind) for model in self.models]
            names = dict.fromkeys(name for values in found for name in values)
            rows += [
                [name, *(f"{values[name]:.4f}" if name in values else "" for values in found)]
                for name in names
                if (kind, name) != ("metrics", self.headline)
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
            if not images:
                continue
            for name, before, after in each.images:
                yield f"  {name}: {before:.3g} with {first}, {after:.3g} with {each.name}"
            if each.differing > len(each.images):
                yield f"  and {each.differing - len(each.images)} more images"

    def _verdict(self, each: Against) -> str:
        low, high = each.difference.low, each.difference.high
        if low <= 0 <= high:
            return "cannot be distinguished"
        return "better" if (low > 0) == (self.better == "higher") else "worse"

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


def _with_interval(found: Estimate) -> str:
    return f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"


def _signed(found: Estimate) -> str:
    return f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
