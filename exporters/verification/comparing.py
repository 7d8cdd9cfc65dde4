"""One comparison of a file with PyTorch: who runs, what is added up, when it is a breach."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visiongraft.comparison import Arrays, Disagreement
from visiongraft.errors import ExportError, one_line
from visiongraft.exporter import Comparison
from visiongraft.near_ties import MOST, of_image, settle
from visiongraft.network import InferenceGraph
from visiongraft.task import Task

TOLERANCE = 1e-4  # relative to the largest reference value; float32 kernels differ by 1e-6 to 1e-5
NEAR_TIE_FRACTION = 10  # one in so many images of a check may be undecided, or ``MOST``
_SIZES_NAMED = 20

Run = Callable[[NDArray[np.uint8]], Arrays]
Reference = Callable[[Tensor], Arrays]


class Pair:
    """The reference and the file under test.

    Args:
        run: Gives the file's results for raw images, uint8 (N, H, W, C).
        graph: What the file was made of, in evaluation mode, float32, on the CPU.
        reference: Gives PyTorch's results for the same; those of ``graph`` if ``None``.
        exact: Whether no decision may change.
    """

    def __init__(
        self, run: Run, graph: InferenceGraph, reference: Reference | None, exact: bool
    ) -> None:
        self.graph = graph
        self.exact = exact
        self.task: Task = graph.task
        self._candidate = run
        self._reference = reference or self._decode

    def run(self, images: NDArray[np.uint8]) -> tuple[Arrays, Arrays]:
        """Give PyTorch's and the file's results for uint8 (N, H, W, C)."""
        try:
            side = "PyTorch"
            reference = self._reference(torch.tensor(images))  # decoded images are read-only
            side = "the exported file"
            return reference, self._candidate(images)
        except Exception as error:  # neither's exceptions share a base
            batch, height, width, _ = images.shape
            raise ExportError(
                f"{side} fails on {batch} images of {height}x{width} pixels: {one_line(error)}"
            ) from error

    def compare(self, reference: Arrays, candidate: Arrays) -> Disagreement:
        """Judge one batch; a difference that is no number is infinite."""
        found = self.task.export_support().compare(reference, candidate)
        return replace(found, difference=math.inf) if math.isnan(found.difference) else found

    def settle(
        self, images: NDArray[np.uint8], results: tuple[Arrays, Arrays], most: int
    ) -> tuple[Arrays, int]:
        """Take over other decisions of PyTorch for images that it leaves undecided."""
        return settle(self.graph, self._reference, torch.tensor(images), results, TOLERANCE, most)

    def _decode(self, images: Tensor) -> Arrays:
        with torch.inference_mode():
            decoded = self.graph(images)
        return {name: tensor.numpy() for name, tensor in decoded.items()}


@dataclass
class Tally:
    """Adds up one check."""

    pair: Pair
    inputs: str
    batch: int
    images: int = 0
    sizes: set[tuple[int, int]] = field(default_factory=set)
    difference: float = 0.0
    mismatches: int = 0
    decisions: int = 0
    near_ties: int = 0
    worst: tuple[float, float] = (-1.0, -1.0)
    place: str = ""
    name: str = ""

    def add(
        self,
        images: NDArray[np.uint8],
        results: tuple[Arrays, Arrays],
        places: Sequence[str],
        names: Sequence[str],
    ) -> None:
        """Take one batch in; ``places`` go into the certificate, ``names`` into messages."""
        reference, candidate = results
        compare = self.pair.compare
        found = compare(reference, candidate)
        if found.mismatches and self.pair.exact and math.isfinite(found.difference):
            most = max(MOST, self.images // NEAR_TIE_FRACTION) - self.near_ties
            reference, near_ties = self.pair.settle(images, results, most)
            self.near_ties += near_ties
            found = compare(reference, candidate)
        size = (images.shape[1], images.shape[2])
        self.sizes.add(size)
        self.difference = max(self.difference, found.difference)
        self.mismatches += found.mismatches
        self.decisions += sum(v.size for v in reference.values() if v.dtype.kind in "iub")
        if (found.mismatches, found.difference) <= self.worst:
            return
        self.worst = (found.mismatches, found.difference)
        each = [compare(of_image(reference, i), of_image(candidate, i)) for i in range(len(names))]
        index = max(range(len(names)), key=lambda i: (each[i].mismatches, each[i].difference))
        self.place, self.name = places[index], f"{names[index]} ({size[0]}x{size[1]})"

    def result(self) -> Comparison:
        """Give the check, if it passed."""
        differs = self.difference > TOLERANCE or self.mismatches > 0
        if differs if self.pair.exact else math.isinf(self.difference):
            raise ExportError(
                f"the exported file disagrees with PyTorch in batches of {self.batch}, most on "
                f"{self.name}: {self._figures()}"
            )
        by_area = sorted(self.sizes, key=lambda s: (s[0] * s[1], s))
        spaced = np.linspace(0, len(by_area) - 1, min(len(by_area), _SIZES_NAMED)).round()
        sizes = tuple(by_area[int(i)] for i in spaced)
        return Comparison(
            self.inputs,
            self.batch,
            self.images,
            sizes,
            self.difference,
            self.mismatches,
            self.place,
            self.decisions,
            self.near_ties,
        )

    def _figures(self) -> str:
        difference = (
            f"relative difference {self.difference:.1e}, at most {TOLERANCE:.0e} is accepted"
            if math.isfinite(self.difference)
            else "outputs differ in name or shape, or are not finite"
        )
        counted = f"{difference}; {self.mismatches} changed decisions in {self.images} images"
        if self.mismatches or not math.isfinite(self.difference) or not self.pair.exact:
            return counted
        return (
            f"{counted}; the network magnifies rounding: train it at a lower rate, for fewer "
            "epochs, or with smoothed labels"
        )


def equal_but_for_ties(reference: Arrays, candidate: Arrays) -> bool:
    """Say whether scores agree though another one of equals may have been chosen.

    All places of an even image are alike, and which of them a detector names is chance. So all
    results must be finite, and one real-valued one must be the same in each image, in any order.
    """
    if reference.keys() != candidate.keys() or any(
        value.shape != candidate[name].shape or not np.isfinite(candidate[name]).all()
        for name, value in reference.items()
    ):
        return False
    for name, value in reference.items():
        if value.dtype.kind == "f" and value.ndim > 1 and value.size:
            one, other = (np.sort(v.reshape(len(v), -1), 1) for v in (value, candidate[name]))
            scale = max(float(np.abs(one).max()), 1e-12)
            if float(np.abs(one - other).max()) <= TOLERANCE * scale:
                return True
    return False
