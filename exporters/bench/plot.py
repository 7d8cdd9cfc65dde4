"""An image of a benchmark: throughput and latency by batch size."""

from __future__ import annotations

from pathlib import Path

from visiongraft.errors import OptionError
from visiongraft.exporters.bench.measure import Report, Row


def check_type(path: Path) -> None:
    """Refuse an image that could not be drawn, before anything is measured.

    Args:
        path: Where it would go.

    Raises:
        OptionError: Its suffix names no known type.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    known = sorted(FigureCanvasAgg.get_supported_filetypes())
    if path.suffix[1:].lower() not in known:
        raise OptionError(f"{path} cannot be drawn; known types are {', '.join(known)}")


def draw(report: Report, path: Path) -> None:
    """Draw a report.

    Args:
        report: What was measured.
        path: Image to write; its suffix selects the file type.

    Raises:
        OptionError: The image cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    batches = sorted({row.batch for row in report.measured})
    series = _series(report)
    width = 0.8 / len(series)
    for number, (name, rows) in enumerate(series.items()):
        positions = [batches.index(row.batch) + width * number - 0.4 + width / 2 for row in rows]
        color = f"C{number % 10}"
        left.bar(positions, [row.images_per_second for row in rows], width, color=color, label=name)
        middle = [row.p50 for row in rows]
        above = [row.p99 - row.p50 for row in rows]
        right.bar(positions, middle, width, color=color)
        right.errorbar(positions, middle, [[0.0] * len(rows), above], fmt="none", ecolor="black")
    left.set_ylabel("images per second")
    right.set_ylabel("ms per run: median, up to p99")
    right.set_yscale("log")  # large batches would hide the small ones
    for axes in (left, right):
        axes.set_xticks(range(len(batches)), [f"batch {batch}" for batch in batches])
    left.legend(fontsize="small")
    machine = report.machine
    figure.suptitle(f"{machine['cpu']}, threads per run: {machine['threads']}", fontsize="medium")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        canvas.print_figure(path, dpi=120)
    except OSError as error:
        raise OptionError(f"{path} cannot be written: {error.strerror or error}") from error


def _series(report: Report) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    several = len({row.provider for row in report.measured}) > 1
    for row in report.measured:
        name = f"{row.name} ({row.precision}{', ' + row.provider if several else ''})"
        found.setdefault(name, []).append(row)
    return found
