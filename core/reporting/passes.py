"""One pass over the validation images for all sections, and embeddings of others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visiongraft.backbone import Features
from visiongraft.data.loader import (
    BatchLoader,
    SampleDataset,
    default_workers,
    ordered_batches,
)
from visiongraft.data.samples import Samples, TargetSamples
from visiongraft.network import Network
from visiongraft.reporting.contract import ReportedRun, Results
from visiongraft.training.evaluation import decode_samples

BATCH = 32


def watch(network: Network, samples: Samples, batch_size: int = BATCH) -> Iterator[Results]:
    """Compute the results of samples, with their embeddings.

    Args:
        network: The network.
        samples: Labeled samples.
        batch_size: Samples per forward pass.
    """
    passed: list[Features] = []

    def keep(module: torch.nn.Module, images: Any, features: Features) -> None:
        passed.append(features)

    handle = network.backbone.register_forward_hook(keep)
    try:
        for decoded, targets, positions in decode_samples(network, samples, batch_size):
            pooled = passed[0].pooled if passed else None
            fits = pooled is not None and len(pooled) == len(positions)
            found = pooled.float().cpu().numpy() if pooled is not None and fits else None
            passed.clear()
            yield Results(decoded, targets, positions, found)
    finally:
        handle.remove()


def embed_samples(
    network: Network, samples: Samples, batch_size: int = BATCH
) -> NDArray[np.float64]:
    """Compute the embeddings of samples, whose targets are not read.

    Args:
        network: Its backbone computes them.
        samples: The samples.
        batch_size: Samples per forward pass.

    Returns:
        float64 (N, D).
    """
    device = next(network.parameters()).device
    loader = BatchLoader(
        SampleDataset(TargetSamples(samples, (0,) * len(samples)), network.preprocess_on_cpu()),
        _no_targets,
        default_workers(device),
        one_size=network.preprocess.config.resize == "pad",
    )
    found: dict[int, NDArray[np.float64]] = {}
    plan = ordered_batches(len(samples), batch_size)
    network.eval()
    for batch in loader.batches([[(i, 0) for i in part] for part in plan]):
        with torch.no_grad():
            pooled = network.backbone(batch.to(device).images).pooled.double().cpu().numpy()
        found.update(zip(batch.indices.tolist(), pooled, strict=True))
    return np.stack([found[i] for i in range(len(samples))])


def training_embeddings(run: ReportedRun) -> NDArray[np.float64]:
    """Compute the embeddings of the training samples of a run, once for all sections.

    Args:
        run: A run whose training samples are there.

    Returns:
        float64 (N, D).
    """
    assert run.training is not None
    if run.embedded is None:
        run.embedded = embed_samples(run.network, run.training)
    return run.embedded


def _no_targets(targets: Sequence[Any]) -> None:
    """Collate targets that nobody reads."""
