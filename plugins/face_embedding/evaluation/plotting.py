"""Plot verification and identification curves from the results of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visiongraft.errors import OptionError
from visiongraft.saving.files import write_figure

MIN_FALSE_ACCEPT_RATE = 1e-4  # the left end of the plot


def plot_results(results: Mapping[str, Mapping[str, Any]], path: str | Path) -> None:
    """Plot the ROC and CMC curves of one or more models in one image.

    Args:
        results: The results of ``evaluate``, by the name of each model.
        path: PNG file to write.

    Raises:
        OptionError: There are no results, or one has no ROC curve.
    """
    from matplotlib.figure import Figure

    if not results or not all(r.get("roc", {}).get("far") for r in results.values()):
        raise OptionError(
            "there is no ROC curve to plot; the results need pairs of one identity and of two"
        )
    figure = Figure(figsize=(9, 4), layout="constrained")
    roc, cmc = figure.subplots(1, 2)
    for name, result in results.items():
        error = result["equal_error_rate"]
        roc.plot(result["roc"]["far"], result["roc"]["tar"], label=f"{name}, EER {error:.3f}")
        if result["cmc"]:
            ranks = range(1, len(result["cmc"]) + 1)
            cmc.plot(
                ranks, result["cmc"], marker=".", label=f"{name}, rank-1 {result['rank1']:.3f}"
            )
    roc.set(
        xscale="log",
        xlim=(MIN_FALSE_ACCEPT_RATE, 1),
        ylim=(0, 1.02),
        xlabel="false accept rate",
        ylabel="true accept rate",
        title="verification (ROC)",
    )
    cmc.set(
        ylim=(0, 1.02), xlabel="rank", ylabel="identification rate", title="identification (CMC)"
    )
    for axes in (roc, cmc):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right")
    write_figure(Path(path), figure)
