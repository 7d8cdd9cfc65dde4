"""The trainings of a run that tries several strengths of a transfer loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from visiongraft.training.resuming.checkpoint import RunState


@dataclass(frozen=True)
class Trial:
    """One training of a run that tries several strengths.

    Attributes:
        name: The transfer losses with their options.
        folder: Its folder within that of the run.
        state: What it came to.
    """

    name: str
    folder: str
    state: RunState

    def facts(self, headline: str) -> dict[str, Any]:
        """Return what a model card tells about the training.

        Args:
            headline: Name of the task's headline metric.
        """
        best = self.state.best
        assert best is not None
        return {
            "epoch": best["epoch"],
            headline: best["results"][headline],
            **{
                f"{part}.{name}": value
                for part, metrics in best["evaluation"].items()
                for name, value in metrics.items()
            },
            **({"alpha": best["alpha"]} if "alpha" in best else {}),
            "satisfied": not best["unsatisfied"],
            "folder": self.folder,
        }
