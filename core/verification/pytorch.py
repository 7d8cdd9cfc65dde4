"""PyTorch as the reference: the very graph that is evaluated and exported."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from visiongraft.comparison import Arrays
from visiongraft.network import InferenceGraph
from visiongraft.training.evaluation import to_arrays
from visiongraft.verification.engine import TOLERANCE, ImageBatch
from visiongraft.verification.near_ties import settle


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

    def _decode(self, images: Tensor) -> Arrays:
        with torch.inference_mode():
            return to_arrays(self.graph(*self.graph.inputs(images).values()))
