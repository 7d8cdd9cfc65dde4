"""Figures of pages, drawn by Bokeh; colors of axes and texts come from the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEIGHT = 280  # pixels
ROW = 22  # pixels of a row of a matrix
WIDE = 80  # most pixels of a column
ALL_TICKS = 40  # with more rows or columns, names are shown on hovering only
TEN, TWENTY = 10, 20

Floats = NDArray[np.float64]


def new_figure(x: str, y: str, *, height: int = HEIGHT, **options: Any) -> Any:
    """Create an empty figure as wide as the page.

    Args:
        x: Label of the horizontal axis.
        y: Label of the vertical axis.
        height: Its height in pixels.
        options: Further ones of ``bokeh.plotting.figure``.
    """
    from bokeh.plotting import figure

    made = figure(
        x_axis_label=x,
        y_axis_label=y,
        height=height,
        sizing_mode="stretch_width",
        min_width=200,
        **{"tools": "", "toolbar_location": None, **options},
    )
    made.xaxis.axis_label_text_font_style = made.yaxis.axis_label_text_font_style = "normal"
    return made


def draw_lines(
    axes: Any,
    lines: Mapping[str, tuple[Sequence[float], Sequence[float | None]]],
    *,
    digits: str = "0.0000",
    markers: bool = True,
) -> None:
    """Draw lines with a legend, and their values on hovering.

    Args:
        axes: From ``new_figure``.
        lines: Horizontal and vertical positions by name; ``None`` leaves a gap.
        digits: How values are shown, in the notation of Bokeh.
        markers: Whether points are marked.
    """
    from bokeh.models import ColumnDataSource, HoverTool

    for (name, (xs, ys)), color in zip(lines.items(), colors(len(lines)), strict=True):
        values = [np.nan if y is None else y for y in ys]
        source = ColumnDataSource({"x": list(xs), "y": values, "name": [name] * len(values)})
        axes.line("x", "y", source=source, color=color, line_width=2, legend_label=name)
        drawn = axes.scatter("x", "y", source=source, color=color, size=6 if markers else 3)
        axes.add_tools(
            HoverTool(
                renderers=[drawn],
                tooltips=[
                    ("", "@name"),
                    (str(axes.xaxis.axis_label), "@x{0.[00]}"),
                    (str(axes.yaxis.axis_label), f"@y{{{digits}}}"),
                ],
            )
        )
    if lines:
        style_legend(axes)


def draw_matrix(
    counts: NDArray[np.int64], rows: Sequence[str], columns: Sequence[str], x: str, y: str
) -> Any:
    """Draw a matrix of counts; cells without any are left out.

    Args:
        counts: int64 (R, C), non-negative.
        rows: Names of the rows, from top to bottom.
        columns: Names of the columns.
        x: What columns are.
        y: What rows are.

    Returns:
        The figure.
    """
    from bokeh.models import ColumnDataSource, HoverTool, LinearColorMapper

    height = min(720, 120 + ROW * len(rows))
    axes = new_figure(
        x, y, height=height, max_width=200 + WIDE * len(columns),
        x_range=(-0.5, len(columns) - 0.5), y_range=(len(rows) - 0.5, -0.5),
    )  # fmt: skip
    at = np.argwhere(counts > 0)
    found = counts[counts > 0]
    totals = counts.sum(axis=1)
    source = ColumnDataSource(
        {
            "x": at[:, 1].tolist(),
            "y": at[:, 0].tolist(),
            "count": found.tolist(),
            "part": (found / totals[at[:, 0]]).tolist(),
            "row": [rows[i] for i in at[:, 0]],
            "column": [columns[i] for i in at[:, 1]],
        }
    )
    mapper = LinearColorMapper(palette="Blues256", low=1.15, high=-0.05)
    drawn = axes.rect(
        "x", "y", 1, 1, source=source, fill_color={"field": "part", "transform": mapper},
        line_color=None,
    )  # fmt: skip
    if len(rows) <= TWENTY:
        source.data["ink"] = ["white" if part > 0.55 else "black" for part in source.data["part"]]
        axes.text(
            "x", "y", text="count", source=source, text_align="center", text_baseline="middle",
            text_color="ink", text_font_size="12px",
        )  # fmt: skip
    axes.add_tools(
        HoverTool(
            renderers=[drawn],
            tooltips=[(y, "@row"), (x, "@column"), ("count", "@count (@part{0.0%} of the row)")],
        )
    )
    for axis, names in ((axes.xaxis, columns), (axes.yaxis, rows)):
        named = range(len(names)) if len(names) <= ALL_TICKS else []
        axis.ticker = list(named)
        axis.major_label_overrides = {i: names[i] for i in named}
    if len(columns) > 4:
        axes.xaxis.major_label_orientation = 0.9
    axes.grid.visible = False
    return axes


def draw_points(
    points: Floats, groups: Sequence[str], names: Sequence[str], images: Sequence[str]
) -> Any:
    """Draw images as points, with the image on hovering.

    Args:
        points: (N, 2).
        groups: What the color of each stands for.
        names: Name of each image.
        images: Each image as the URI of its data.

    Returns:
        The figure.
    """
    from bokeh.models import ColumnDataSource, HoverTool

    axes = new_figure(
        "", "", height=480, tools="pan,wheel_zoom,box_zoom,reset", toolbar_location="right"
    )
    axes.toolbar.logo = None
    known = sorted(set(groups))
    palette = dict(zip(known, colors(len(known)), strict=True))
    source = ColumnDataSource(
        {
            "x": points[:, 0].tolist(),
            "y": points[:, 1].tolist(),
            "group": list(groups),
            "name": list(names),
            "image": list(images),
            "color": [palette[group] for group in groups],
        }
    )
    options = {"legend_group": "group"} if 1 < len(known) <= TWENTY else {}
    drawn = axes.scatter(
        "x", "y", source=source, color="color", size=9, alpha=0.75, line_color=None, **options
    )
    tooltip = (
        '<div style="max-width: 12rem"><img src="@image" alt="" style="display: block; '
        'max-width: 9rem"><b>@group</b><br>@name</div>'
    )
    axes.add_tools(HoverTool(renderers=[drawn], tooltips=tooltip))
    axes.axis.visible = False
    if options:
        style_legend(axes)
    return axes


def draw_bars(names: Sequence[str], values: Mapping[str, Sequence[float]], y: str) -> Any:
    """Draw bars beside each other, one group for each name."""
    from bokeh.models import ColumnDataSource, HoverTool

    axes = new_figure("", y)
    width = 0.8 / len(values)
    for i, (series, color) in enumerate(zip(values, colors(len(values)), strict=True)):
        source = ColumnDataSource(
            {
                "x": [n - 0.4 + width * (i + 0.5) for n in range(len(names))],
                "y": list(values[series]),
                "name": list(names),
                "series": [series] * len(names),
            }
        )
        drawn = axes.vbar(
            "x", width * 0.92, "y", source=source, color=color, legend_label=series
        )  # fmt: skip
        axes.add_tools(
            HoverTool(
                renderers=[drawn], tooltips=[("", "@name"), ("", "@series"), (y, "@y{0.[000]}")]
            )
        )
    named = range(len(names)) if len(names) <= ALL_TICKS else []
    axes.xaxis.ticker = list(named)
    axes.xaxis.major_label_overrides = {i: names[i] for i in named}
    if len(names) > 6:
        axes.xaxis.major_label_orientation = 0.9
    axes.y_range.start = 0
    style_legend(axes)
    return axes


def style_legend(axes: Any) -> None:
    """Put the legend of a figure below it, without a box."""
    from bokeh.models.css import InlineStyleSheet

    legend = axes.legend[0]
    legend.stylesheets = [InlineStyleSheet(css="* { color: var(--ink) !important; }")]
    legend.background_fill_alpha, legend.border_line_alpha = 0, 0
    legend.orientation = "horizontal"
    legend.ncols = 4
    axes.add_layout(legend, "below")


def colors(count: int) -> list[str]:
    """Return as many colors, distinct as far as there are."""
    from bokeh.palettes import Category10, Category20, turbo

    if count <= TEN:
        return list(Category10[TEN][:count])
    if count <= TWENTY:
        return list(Category20[TWENTY][:count])
    return list(turbo(min(count, 256))) * (1 + count // 256)
