"""Embeddings of samples: what the task decodes as such, or the pooled features of the backbone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visiongraft.backbone import Features
from visiongraft.data.loader import (
    BatchLoader,
    SampleDataset,
    default_workers,
    ordered_batches,
)
from visiongraft.data.samples import Samples, TargetSamples
from visiongraft.errors import DataError, OptionError
from visiongraft.extra_outputs import first_features
from visiongraft.network import Network
from visiongraft.training.evaluation import decode_samples

NAME = "embedding"  # of the result that is the embedding of a task that trains one

Vectors = NDArray[np.float32]


def embed_samples(network: Network, samples: Samples, batch_size: int) -> Vectors:
    """Compute one vector for each sample; targets are not read.

    Args:
        network: The network; left in evaluation mode.
        samples: The samples.
        batch_size: Samples per forward pass.

    Returns:
        float32 (N, D), in the order of the samples: ``embedding`` of the decoded results, if the task has
        one; otherwise the pooled features of the first pass through the backbone, of clips their mean over
        the frames.

    Raises:
        OptionError: The backbone does not run once for each sample, as in generators.
        DataError: There are none, or one cannot be read.
    """
    found: dict[int, Vectors] = {}
    for _, vectors, positions in decode_and_embed(network, samples, batch_size):
        found.update(zip(positions, vectors, strict=True))
    return np.stack([found[i] for i in range(len(samples))])


def decode_and_embed(
    network: Network, samples: Samples, batch_size: int
) -> Iterator[tuple[dict[str, NDArray[Any]], Vectors, list[int]]]:
    """Decode samples and compute one vector for each in the same pass; see ``embed_samples``.

    Yields:
        Decoded arrays, vectors and positions, batch by batch.
    """
    if not len(samples):
        raise DataError(f"there are no {network.task.inputs.name} to embed")
    with first_features(network.backbone) as passed:
        for decoded, _, positions in decode_samples(
            network, samples, batch_size, for_metrics=False
        ):
            own = decoded.get(NAME)
            vectors = own if own is not None and own.ndim == 2 else _pooled(passed)
            passed.clear()
            if vectors is None or len(vectors) != len(positions):
                raise OptionError(
                    f"models for task {network.task.name!r} have no embeddings: their backbone does not "
                    f"run once for each of the {network.task.inputs.name}"
                )
            yield decoded, vectors.astype(np.float32), positions


def backbone_embeddings(network: Network, samples: Samples, batch_size: int) -> NDArray[np.float64]:
    """Compute the pooled features of samples by the backbone alone; targets are not read.

    Args:
        network: Its backbone computes them; left in evaluation mode.
        samples: The samples.
        batch_size: Samples per forward pass.

    Returns:
        float64 (N, D), in the order of the samples.
    """
    device = next(network.parameters()).device
    plain = TargetSamples(samples, (0,) * len(samples))
    dataset = SampleDataset(plain, network.preprocess_on_cpu())
    one_size = network.preprocess.config.resize == "pad"
    loader = BatchLoader(dataset, list, default_workers(device), one_size=one_size)
    found: dict[int, NDArray[np.float64]] = {}
    network.eval()
    plan = ordered_batches(len(samples), batch_size)
    for batch in loader.batches([[(i, 0) for i in part] for part in plan]):
        with torch.no_grad():
            pooled = network.backbone(batch.to(device).images).pooled.double().cpu().numpy()
        found.update(zip(batch.indices.tolist(), pooled, strict=True))
    return np.stack([found[i] for i in range(len(samples))])


def pooled_layers(network: Network, samples: Samples, batch_size: int) -> list[Vectors]:
    """Compute the means of all feature maps over their positions, and the embedding of the backbone.

    Args:
        network: The network; left in evaluation mode.
        samples: Images.
        batch_size: Images per forward pass.

    Returns:
        float32 (N, C_i) for each feature map, from fine to coarse, and (N, D); in the order of the samples.
    """
    found: dict[int, list[Vectors]] = {}
    with first_features(network.backbone) as passed:
        for _, _, positions in decode_samples(network, samples, batch_size, for_metrics=False):
            if not passed or len(passed[0].pooled) != len(positions):
                raise OptionError(
                    f"models for task {network.task.name!r} have no layers to look at: their backbone does not "
                    "run once for each image"
                )
            maps, pooled = passed.pop()
            rows = [each.detach().float().mean((2, 3)).cpu().numpy() for each in maps]
            rows.append(pooled.detach().float().cpu().numpy())
            found.update({p: [r[i] for r in rows] for i, p in enumerate(positions)})
    return [np.stack([found[i][k] for i in range(len(samples))]) for k in range(len(found[0]))]


def unit_rows(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Divide vectors (N, D) by their lengths; those of length 0 stay.

    Examples:
        >>> unit_rows(np.array([[3.0, 4], [0, 0]])).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float64)


def _pooled(passed: list[Features]) -> NDArray[np.floating] | None:
    if not passed:
        return None
    pooled: Tensor = passed[0].pooled.detach().float()
    if pooled.ndim > 2:  # the frames of clips
        pooled = pooled.flatten(1, -2).mean(1)
    return np.asarray(pooled.cpu().numpy())
