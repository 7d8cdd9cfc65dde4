"""Plots of verification and identification, from the results of an evaluation."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visiongraft.errors import OptionError
from visiongraft.saving.files import write_bytes

LEAST_RATE = 1e-4  # of false accepts, at the left end of the plot


def plot_results(results: Mapping[str, Mapping[str, Any]], path: str | Path) -> None:
    """Draw the ROC and the CMC curves of some models into one image.

    Args:
        results: What ``evaluate`` gave, by the name of each model.
        path: PNG file to write.

    Raises:
        OptionError: There are no results, or they hold no curve.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not results or not all(r.get("roc", {}).get("far") for r in results.values()):
        raise OptionError("there is no ROC curve to draw; it takes results of pairs of both kinds")
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    roc, cmc = figure.subplots(1, 2)
    for name, one in results.items():
        error = one["equal_error_rate"]
        roc.plot(one["roc"]["far"], one["roc"]["tar"], label=f"{name}, EER {error:.3f}")
        if one["cmc"]:
            ranks = range(1, len(one["cmc"]) + 1)
            cmc.plot(ranks, one["cmc"], marker=".", label=f"{name}, rank-1 {one['rank1']:.3f}")
    roc.set(
        xscale="log",
        xlim=(LEAST_RATE, 1),
        ylim=(0, 1.02),
        xlabel="false accept rate",
        ylabel="true accept rate",
        title="verification (ROC)",
    )
    cmc.set(ylim=(0, 1.02), xlabel="rank", ylabel="share found", title="identification (CMC)")
    for axes in (roc, cmc):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100)
    write_bytes(Path(path), content.getvalue())
