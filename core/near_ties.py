"""Distinguish near-ties of a network from errors of an exported file.

Two runtimes round differently. Where two scores or two overlaps are equal but for that, either may
come first, and a detector of two stages makes a hundred such choices that its results do not show.
Nobody can say which side is right, but PyTorch can be asked whether it stands by its own decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visiongraft.comparison import Arrays
from visiongraft.network import InferenceGraph

LEVELS = (0.0002, 0.002, 0.02)  # of 255; the last is what two resizes of an image may differ by
DRAWS = 8  # for each of them
MOST = 3  # near-ties that one comparison may have

Decode = Callable[[Tensor], Arrays]


def settle(
    graph: InferenceGraph,
    decode: Decode,
    images: Tensor,
    results: tuple[Arrays, Arrays],
    tolerance: float,
    most: int = MOST,
) -> tuple[dict[str, NDArray[Any]], int]:
    """Replace the reference results of near-ties by those of a slightly changed image.

    Args:
        graph: The network, in evaluation mode, on the CPU.
        decode: Gives its decoded outputs for raw images.
        images: uint8 (N, H, W, C).
        results: What PyTorch said of them, and what the other side says.
        tolerance: Largest relative difference at which the two agree.
        most: Maximum number of near-ties; further images keep their results.

    Returns:
        What PyTorch said, but for images with changed decisions what it says if the image's
        values change by next to nothing (see ``decode_nearby``), if that is just what the other side
        says; and how many images these are. After one that is not, no further one is tried.
    """
    reference, candidate = results
    settled = {name: np.array(value) for name, value in reference.items()}
    count = 0
    if any(value.shape[:1] != (len(images),) for value in settled.values()):
        return settled, count  # results of no single image
    for i in range(len(images)):
        other = of_image(candidate, i)
        if not graph.task.export_support().compare(of_image(reference, i), other).mismatches:
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


def decode_nearby(graph: InferenceGraph, decode: Decode, images: Tensor) -> Iterator[Arrays]:
    """Yield the results of PyTorch on the same images with slightly changed values.

    Args:
        graph: The network, in evaluation mode, on the CPU.
        decode: Gives its decoded outputs for raw images, by ``graph.preprocess`` first.
        images: uint8 (N, H, W, C).

    Yields:
        Decoded outputs, for random changes of the values by at most 0.0002 of 255, eight times,
        then by 0.002 and by 0.02. The same ones in every run.
    """
    scale = 255 * torch.tensor(graph.preprocess.config.std)[:, None, None]
    random = torch.Generator().manual_seed(0)

    def change(level: float, _module: Any, _inputs: Any, prepared: Tensor) -> Tensor:
        return prepared + level * (2 * torch.rand(prepared.shape, generator=random) - 1) / scale

    for level in LEVELS:
        for _ in range(DRAWS):
            hook = graph.preprocess.register_forward_hook(partial(change, level))
            try:
                decoded = decode(images)
            finally:
                hook.remove()
            yield decoded


def of_image(arrays: Arrays, index: int) -> dict[str, NDArray[Any]]:
    """Return the results of one image of a batch, as a batch of one."""
    return {name: np.atleast_1d(value)[index : index + 1] for name, value in arrays.items()}


def _agree(graph: InferenceGraph, other: Arrays, tolerance: float, nearby: Arrays) -> bool:
    found = graph.task.export_support().compare(nearby, other)
    return found.difference <= tolerance and not found.mismatches
