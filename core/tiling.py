"""Big images in overlapping windows, whose maps are blended before they are decoded once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visiongraft.data.samples import Samples
from visiongraft.errors import OptionError
from visiongraft.network import Network, restored
from visiongraft.training.evaluation import to_arrays

OVERLAP = 0.25  # smallest fraction of a window's sides that its neighbor sees too


def decode_tiled(
    network: Network, samples: Samples, tile: tuple[int, int], batch_size: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """Decode images that may be larger than the network should see at once.

    Each image is cut into windows that overlap by at least a quarter. The head outputs named in
    ``Task.full_resolution_outputs`` are computed for every window, resized to it and averaged
    with weights that fall towards its edges, so that no seam shows; ``decode`` then gets these
    outputs alone, of the whole image. All of them are held in memory: 4 bytes for each pixel and
    channel.

    Args:
        network: The network; left in evaluation mode.
        samples: The images.
        tile: Height and width of a window in pixels; an image that is smaller is one window.
        batch_size: Windows per forward pass.

    Yields:
        Decoded arrays of one image at a time, as a batch of one, in order.

    Raises:
        OptionError: The task has no full-resolution outputs to blend.
    """
    if not network.task.full_resolution_outputs:
        raise OptionError(
            f"task {network.task.name!r} has no maps to blend, so tile= cannot be used"
        )
    network.eval()
    device = next(network.parameters()).device
    channels = len(network.preprocess.config.mean)
    for index in range(len(samples)):
        image = torch.tensor(samples.load(index, channels))  # a copy: decoded ones are read-only
        size = torch.tensor([image.shape[:2]], device=device)
        with torch.inference_mode():
            maps = _blended(network, image.to(device), tile, batch_size)
            decoded = network.task.decode(maps, size)
        yield to_arrays(decoded)


def windows(length: int, tile: int) -> list[int]:
    """Place windows along one side of an image, evenly and with at least ``OVERLAP``.

    Args:
        length: The side in pixels.
        tile: Length of a window in pixels.

    Returns:
        Where each begins; the first at 0, the last ends with the side.

    Examples:
        >>> windows(1000, 512), windows(300, 512)
        ([0, 244, 488], [0])
    """
    if length <= tile:
        return [0]
    step = max(int(tile * (1 - OVERLAP)), 1)
    count = -(-(length - tile) // step) + 1
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def _blended(
    network: Network, image: Tensor, tile: tuple[int, int], batch_size: int
) -> dict[str, Tensor]:
    """Compute the maps (1, C, H, W) of an image uint8 (H, W, channels)."""
    height, width = image.shape[:2]
    h, w = min(tile[0], height), min(tile[1], width)
    corners = list(product(windows(height, tile[0]), windows(width, tile[1])))
    weight = _ramp(h, image.device)[:, None] * _ramp(w, image.device)
    sums: dict[str, Tensor] = {}
    total = torch.zeros(height, width, device=image.device)
    for start in range(0, len(corners), batch_size):
        some = corners[start : start + batch_size]
        images = torch.stack([image[y : y + h, x : x + w] for y, x in some])
        outputs = restored(network, network.preprocess(images), h, w)
        for name in network.task.full_resolution_outputs:
            if name not in sums:
                shape = (1, outputs[name].shape[1], height, width)
                sums[name] = torch.zeros(shape, device=image.device)
            for (y, x), values in zip(some, outputs[name], strict=True):
                sums[name][0, :, y : y + h, x : x + w] += values * weight
        for y, x in some:
            total[y : y + h, x : x + w] += weight
    return {name: values / total for name, values in sums.items()}


def _ramp(length: int, device: torch.device) -> Tensor:
    """Return weights that fall linearly from the middle to the edges and are nowhere 0."""
    ramp = np.minimum(np.arange(length), np.arange(length)[::-1]) + 1.0
    return torch.tensor(ramp / ramp.max(), dtype=torch.float32, device=device)
