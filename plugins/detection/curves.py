"""Plot the precision-recall curve of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visiongraft.errors import DataError


def plot_precision_recall(results: Mapping[str, Any], path: str | Path) -> None:
    """Plot precision over recall at an IoU of 0.5, the mean over the classes.

    Args:
        results: The results of ``evaluate`` for a detector.
        path: Image file to write; its suffix determines the format.

    Raises:
        DataError: The results are not a detector's.
    """
    from matplotlib.figure import Figure

    if "precision_at_recall" not in results:
        raise DataError("these results have no precision_at_recall; pass the results of a detector")
    precision = results["precision_at_recall"]
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    axes.step([i / (len(precision) - 1) for i in range(len(precision))], precision, where="post")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    half = results.get("AP50")
    axes.set_title("IoU 0.5" if half is None else f"IoU 0.5, AP {half:.3f}")
    axes.grid(alpha=0.3)
    figure.savefig(Path(path), dpi=120)
