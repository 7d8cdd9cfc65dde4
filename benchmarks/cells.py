"""Results of a benchmark of many trainings: one line of JSON per finished cell, so that it can be interrupted."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

C = TypeVar("C")


def read_cells(results: Path, kind: type[C]) -> dict[C, dict[str, Any]]:
    """Read the finished cells; a line that was cut off by a kill is ignored.

    Args:
        results: The file; it need not exist.
        kind: The dataclass that names a cell.

    Returns:
        What was measured in each cell.
    """
    found = {}
    for line in results.read_text(encoding="utf-8").splitlines() if results.is_file() else []:
        try:
            values = json.loads(line)
        except ValueError:
            continue
        found[kind(**values.pop("cell"))] = values
    return found


def train_cells(
    cells: Iterable[C], train: Callable[[C], dict[str, Any]], results: Path, limit: int
) -> dict[C, dict[str, Any]]:
    """Train the cells that are not finished yet, and append each to the results.

    Args:
        cells: Instances of a frozen dataclass, in the order in which they are trained.
        train: Trains one, and returns what was measured.
        results: The file of the results.
        limit: Number of cells to train at most.

    Returns:
        What was measured in all finished cells, also in those that are not in ``cells``.
    """
    cells = list(cells)
    found = read_cells(results, type(cells[0])) if cells else {}
    for cell in [cell for cell in cells if cell not in found][:limit]:
        found[cell] = train(cell)
        print(cell, found[cell], file=sys.stderr, flush=True)
        with open(results, "a", encoding="utf-8") as file:
            # On a line of its own, also after one that a kill cut off.
            file.write("\n" + json.dumps({"cell": asdict(cell), **found[cell]}))  # type: ignore[call-overload]
    return found


def mean_and_error(values: Sequence[float]) -> str:
    """Return the mean and the standard error of a measurement that was repeated with several seeds."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1) / math.sqrt(len(values)):.1f}"
