"""PyTorch as the reference: the very graph that is evaluated and exported."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from visiongraft.comparison import Arrays
from visiongraft.network import InferenceGraph
from visiongraft.training.evaluation import to_arrays
from visiongraft.verification.engine import TOLERANCE, ImageBatch
from visiongraft.verification.near_ties import LEVELS, decode_nearby, settle


@dataclass(frozen=True)
class TorchReference:
    """A model in PyTorch.

    Attributes:
        graph: In evaluation mode, float32, on the CPU.
    """

    graph: InferenceGraph
    name: str = "PyTorch"

    def run(self, images: ImageBatch) -> Arrays:
        """Return the decoded results for raw images, uint8 (N, H, W, C)."""
        return self._decode(torch.tensor(images))  # a copy, since decoded images are read-only

    def settle(
        self, images: ImageBatch, results: tuple[Arrays, Arrays], most: int
    ) -> tuple[Arrays, int]:
        """Accept the candidate's predictions where PyTorch itself nearly makes them."""
        return settle(self.graph, self._decode, torch.tensor(images), results, TOLERANCE, most)

    def nearby(self, images: ImageBatch) -> list[Arrays]:
        """Return the results for raw images, and then for nearly the same images."""
        given = torch.tensor(images)
        return [self._decode(given), *decode_nearby(self.graph, self._decode, given, LEVELS[:2], 1)]

    def accepts(self, images: ImageBatch, results: tuple[Arrays, Arrays]) -> bool:
        """Check whether the task takes results for the same, also where PyTorch has a near-tie.

        Args:
            images: One image, uint8 (1, H, W, C).
            results: Those of PyTorch and of the candidate.
        """
        settled, _ = self.settle(images, results, 1)
        found = self.graph.comparison(settled, results[1])
        return found.difference <= TOLERANCE and not found.mismatches

    def _decode(self, images: Tensor) -> Arrays:
        with torch.inference_mode():
            return to_arrays(self.graph(*self.graph.inputs(images).values()))
