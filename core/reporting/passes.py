"""One pass over the validation images for all sections, and embeddings of others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.samples import Samples
from visiongraft.extra_outputs import first_features
from visiongraft.network import Network
from visiongraft.reporting.contract import ReportedRun, Results
from visiongraft.training.embedding import backbone_embeddings
from visiongraft.training.evaluation import decode_samples

BATCH = 32


def watch(network: Network, samples: Samples, batch_size: int = BATCH) -> Iterator[Results]:
    """Compute the results of samples, with their embeddings.

    Args:
        network: The network.
        samples: Labeled samples.
        batch_size: Samples per forward pass.
    """
    with first_features(network.backbone) as passed:
        for decoded, targets, positions in decode_samples(network, samples, batch_size):
            pooled = passed[0].pooled if passed else None
            fits = pooled is not None and len(pooled) == len(positions)
            found = pooled.float().cpu().numpy() if pooled is not None and fits else None
            passed.clear()
            yield Results(decoded, targets, positions, found)


def training_embeddings(run: ReportedRun) -> NDArray[np.float64]:
    """Compute the embeddings of the training samples of a run, once for all sections.

    Args:
        run: A run whose training samples are there.

    Returns:
        float64 (N, D).
    """
    assert run.training is not None
    if run.embedded is None:
        run.embedded = backbone_embeddings(run.network, run.training, BATCH)
    return run.embedded
