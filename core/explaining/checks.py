"""Whether an explanation can be trusted: it depends on the weights, and what it marks matters.

Adebayo et al., "Sanity checks for saliency maps", 2018; Petsiuk et al., "RISE", 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from visiongraft.explaining.maps import Scored
from visiongraft.network import Network
from visiongraft.seeds import seeded

STEPS = 20  # parts of the image that are deleted or inserted one after the other
ORDERS = 5  # random ones to compare with
CELL = 8  # pixels that are deleted together, on each side


@dataclass(frozen=True)
class SanityCheck:
    """The checks of one map.

    Attributes:
        randomized: Rank correlation of the map with that of the same network with random weights; near 1
            means that the map does not depend on what was learned.
        deletion: Mean of what is measured, such as the probability of the class, while the image is
            deleted, what the map marks first. Lower is better.
        insertion: The mean while the image is inserted into a blank one. Higher is better.
        random_deletion: The mean of ``deletion`` for random orders.
        random_insertion: Likewise.
    """

    randomized: float
    deletion: float
    insertion: float
    random_deletion: float
    random_insertion: float

    @property
    def passed(self) -> bool:
        """Whether the map depends on the weights, and marks what matters more than chance does."""
        gain = (self.insertion - self.random_insertion) + (self.random_deletion - self.deletion)
        return self.randomized < 0.9 and gain > 0


def check_map(
    method: Callable[[Scored, Tensor], Tensor], score: Scored, image: Tensor, found: Tensor
) -> SanityCheck:
    """Check a map.

    Args:
        method: What made it.
        score: What it explains.
        image: float (1, C, height, width), preprocessed.
        found: The map, (height, width).
    """
    other = replace(score, network=randomized(score))
    ranks = [_ranks(_cells(each)) for each in (found, method(other, image))]
    curves = _curves(score, image, _cells(found).flatten().argsort(descending=True))
    generator = torch.Generator().manual_seed(0)
    count = _cells(found).numel()
    orders = [torch.randperm(count, generator=generator) for _ in range(ORDERS)]
    chance = np.mean([_curves(score, image, order) for order in orders], axis=0)
    return SanityCheck(_correlation(*ranks), *curves, *map(float, chance))


def randomized(score: Scored) -> Network:
    """Return a copy of the network whose weights are drawn anew, each with its own mean and spread."""
    network: Network = deepcopy(score.network)
    with torch.no_grad(), seeded(0, "randomized"):
        for parameter in network.parameters():
            spread = parameter.std() if parameter.numel() > 1 else parameter.abs()
            parameter.copy_(parameter.mean() + spread * torch.randn_like(parameter))
    network.eval()
    return network


def _curves(score: Scored, image: Tensor, order: Tensor) -> tuple[float, float]:
    """Return deletion and insertion."""
    blank = torch.zeros_like(image)  # the mean color
    rows, columns = _grid(image)
    masks = []
    for step in range(STEPS + 1):
        mask = torch.ones(rows * columns)
        mask[order[: round(step * rows * columns / STEPS)]] = 0
        masks.append(_at_pixels(mask.reshape(rows, columns), image))
    kept = torch.stack(masks)[:, None].to(image.device)
    deleted = score.measured.many(image * kept + blank * (1 - kept))
    inserted = score.measured.many(image * (1 - kept) + blank * kept)
    return float(deleted.mean()), float(inserted.mean())


def _grid(image: Tensor) -> tuple[int, int]:
    height, width = image.shape[-2:]
    return max(1, height // CELL), max(1, width // CELL)


def _cells(found: Tensor) -> Tensor:
    """Average a map over cells."""
    return torch.nn.functional.adaptive_avg_pool2d(found[None, None].float(), _grid(found))[0, 0]


def _at_pixels(cells: Tensor, image: Tensor) -> Tensor:
    size = (image.shape[-2], image.shape[-1])
    return torch.nn.functional.interpolate(cells[None, None], size=size, mode="nearest")[0, 0]


def _ranks(values: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return ranks, equal ones for equal values."""
    flat = values.flatten().double().cpu().numpy()
    _, inverse, counts = np.unique(flat, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    return np.asarray((ends - (counts - 1) / 2)[inverse], dtype=np.float64)


def _correlation(
    one: np.ndarray[tuple[int], np.dtype[np.float64]],
    other: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> float:
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
