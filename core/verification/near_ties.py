"""Distinguish near-ties from wrong predictions.

Two runtimes round differently. Where two scores or two overlaps are equal up to rounding, either may
come first, and a two-stage detector makes a hundred such choices that its results do not show.
Neither side is wrong then, but PyTorch can be run again on nearly the same image to see whether its
prediction is stable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visiongraft.comparison import Arrays
from visiongraft.network import InferenceGraph
from visiongraft.verification.engine import MAX_NEAR_TIES, of_image

LEVELS = (0.0002, 0.002, 0.02)  # of 255; two resizes of an image may differ by the last
DRAWS = 8  # for each of them
VALUES = 64  # of these levels are as much as one in a latent, whose values are not of 255

Decode = Callable[[Tensor], Arrays]


def settle(
    graph: InferenceGraph,
    decode: Decode,
    images: Tensor,
    results: tuple[Arrays, Arrays],
    tolerance: float,
    most: int = MAX_NEAR_TIES,
) -> tuple[dict[str, NDArray[Any]], int]:
    """Replace PyTorch's results for images on which its own prediction is unstable.

    Args:
        graph: The network, in evaluation mode, on the CPU.
        decode: Returns its decoded outputs for raw images.
        images: uint8 (N, H, W, C).
        results: Those of PyTorch and of the candidate.
        tolerance: Largest relative difference at which the two agree.
        most: Largest number of near-ties; any further images keep their results.

    Returns:
        PyTorch's results, where images with changed predictions have those that PyTorch computes
        once the image's values change very slightly (see ``decode_nearby``), if these are just the
        candidate's; and the number of such images. The search ends at the first image for which
        there are none.
    """
    reference, candidate = results
    settled = {name: np.array(value) for name, value in reference.items()}
    count = 0
    if any(value.shape[:1] != (len(images),) for value in settled.values()):
        return settled, count  # these results do not belong to single images
    for i in range(len(images)):
        other = of_image(candidate, i)
        if not graph.comparison(of_image(reference, i), other).mismatches:
            continue
        nearby = None
        if count < most:
            outcomes = decode_nearby(graph, decode, images[i : i + 1])
            agree = partial(_agree, graph, other, tolerance)
            nearby = next(filter(agree, outcomes), None)
        if nearby is None:
            break
        count += 1
        for name, value in settled.items():
            value[i] = nearby[name][0]
    return settled, count


def decode_nearby(
    graph: InferenceGraph,
    decode: Decode,
    images: Tensor,
    levels: Sequence[float] = LEVELS,
    draws: int = DRAWS,
) -> Iterator[Arrays]:
    """Decode the same images with very slightly changed values.

    Args:
        graph: The network, in evaluation mode, on the CPU.
        decode: Returns its decoded outputs for raw images, by ``graph.preprocess`` first.
        images: uint8 (N, H, W, C).
        levels: By how much values change at most, of 255.
        draws: Number of random changes for each of them.

    Yields:
        Decoded outputs, for each level and draw. The changes are the same in every run.
    """
    scale = 255 * torch.tensor(graph.preprocess.config.std)[:, None, None]
    random = torch.Generator().manual_seed(0)

    def change(level: float, _module: Any, _inputs: Any, prepared: Tensor) -> Tensor:
        noise = level * (2 * torch.rand(prepared.shape, generator=random) - 1)
        return prepared + noise / (scale if graph.preprocess.inputs.has_size else VALUES)

    for level in levels:
        for _ in range(draws):
            hook = graph.preprocess.register_forward_hook(partial(change, level))
            try:
                decoded = decode(images)
            finally:
                hook.remove()
            yield decoded


def _agree(graph: InferenceGraph, other: Arrays, tolerance: float, nearby: Arrays) -> bool:
    found = graph.comparison(nearby, other)
    return found.difference <= tolerance and not found.mismatches
