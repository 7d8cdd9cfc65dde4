"""Candidate backbones, and the features that they compute of the images of a dataset."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visiongraft.backbone import Backbone
from visiongraft.caching.folding import folded_copy
from visiongraft.data.batch import weights_channels_last
from visiongraft.data.loader import BatchLoader, SampleDataset, default_workers, ordered_batches
from visiongraft.data.samples import Samples, TargetSamples
from visiongraft.errors import WeightsError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.lookup.models import load_source_head
from visiongraft.preprocess import Preprocess
from visiongraft.scorers import ClassIds, Floats, ScorerInput

BATCH = 16  # images per forward pass, and of the pass that is timed
FIRST = 2  # images of the pass before, which allocates memory


@dataclass(frozen=True)
class Candidate:
    """A backbone that could be trained.

    Attributes:
        name: Its name, or the folder of a saved model.
        backbone: The backbone, in evaluation mode.
        head: The head that it was trained with; ``None`` if it comes without one.
        device: Where it computes.
    """

    name: str
    backbone: Backbone
    head: nn.Module | None
    device: torch.device

    @property
    def parameters(self) -> int:
        """Number of parameters of the backbone."""
        return sum(parameter.numel() for parameter in self.backbone.parameters())

    @cached_property
    def fast(self) -> Backbone:
        """The backbone with its batch norms folded into convolutions, unless that computes anything else."""
        info = self.backbone.info
        noise = torch.Generator().manual_seed(0)
        images = torch.randn(FIRST, info.in_channels, *info.preprocess.size, generator=noise)
        images = images.to(self.device, memory_format=torch.channels_last)
        folded = folded_copy(self.backbone, images)
        weights_channels_last(folded)
        with torch.no_grad():
            expected, found = self.backbone(images).pooled, folded(images).pooled
        return folded if torch.allclose(found, expected, 1e-3, 1e-4) else self.backbone


@dataclass(frozen=True)
class Embedded:
    """What a candidate computed of some images.

    Attributes:
        features: float64 (N, D), the embeddings.
        source_probabilities: float64 (N, S); ``None`` without a source head whose outputs are logits.
        seconds: Time per image, reading and preprocessing included.
    """

    features: Floats
    source_probabilities: Floats | None
    seconds: float


def load_candidate(
    name: str | Path,
    weights: str | None,
    device: torch.device,
    *,
    in_channels: int,
    size: int | tuple[int, int] | None,
    resize: str | None,
    partial: bool = False,
    weights_license: str | None = None,
) -> Candidate:
    """Load a backbone and, if there is one, the head that it was trained with.

    Args:
        name: As in ``load_backbone``.
        weights: As in ``load_backbone``.
        device: Where to compute.
        in_channels: Number of image channels.
        size: Network input; the architecture's own if ``None``.
        resize: How images become the network's input; as the backbone does if ``None``.
        partial: As in ``load_backbone``.
        weights_license: As in ``load_backbone``.

    Raises:
        BackboneError: The name is unknown.
        WeightsError: The weights cannot be downloaded or read.
    """
    backbone = load_backbone(
        name,
        weights,
        in_channels=in_channels,
        size=size,
        partial=partial,
        weights_license=weights_license,
    )
    if resize is not None:
        preprocess = replace(backbone.info.preprocess, resize=resize)
        backbone.info = replace(backbone.info, preprocess=preprocess)
    try:
        head = load_source_head(name, weights)
    except WeightsError:  # of the classifier alone: scorers that need it refuse the backbone
        head = None
    if head is not None:
        head.to(device).eval()
    return Candidate(str(name), backbone.to(device).eval(), head, device)


def embed(candidate: Candidate, samples: Samples) -> Embedded:
    """Compute the embeddings of all images, and what the source head predicts.

    Args:
        candidate: The backbone.
        samples: The images; their targets are not read.

    Raises:
        DataError: An image cannot be read.
    """
    config = candidate.backbone.info.preprocess
    unlabeled = TargetSamples(samples, (0,) * len(samples))
    loader = BatchLoader(
        SampleDataset(unlabeled, Preprocess(config)),
        _no_targets,
        default_workers(candidate.device),
        one_size=config.resize == "pad",
    )
    started, order = time.perf_counter(), []
    features: list[Tensor] = []
    chances: list[Tensor] = []
    plan = ordered_batches(len(samples), BATCH)
    for batch in loader.batches([[(i, 0) for i in part] for part in plan]):
        with torch.no_grad():
            found = candidate.fast(
                batch.images.to(candidate.device, memory_format=torch.channels_last)
            )
            outputs = None if candidate.head is None else candidate.head(found)
        order += batch.indices.tolist()
        features.append(found.pooled.double().cpu())
        if isinstance(outputs, Tensor) and outputs.ndim == 2:
            chances.append(outputs.double().softmax(1).cpu())
    rows = np.argsort(order)
    return Embedded(
        torch.cat(features).numpy()[rows],
        torch.cat(chances).numpy()[rows] if chances else None,
        (time.perf_counter() - started) / max(1, len(samples)),
    )


def seconds_per_image(candidate: Candidate, samples: Samples) -> float:
    """Measure how long a candidate takes for an image."""
    embed(candidate, samples.subset(range(min(FIRST, len(samples)))))
    return embed(candidate, samples.subset(range(min(BATCH, len(samples))))).seconds


def scorer_input(
    candidate: Candidate, embedded: Embedded, labels: ClassIds, seed: int
) -> ScorerInput:
    """Make the input of scorers.

    Raises:
        DataError: The features are not finite, or there are fewer than two classes.
    """
    return ScorerInput(
        candidate.name,
        embedded.features,
        labels,
        embedded.source_probabilities,
        candidate.parameters,
        candidate.backbone.info.provenance,
        seed,
    )


def _no_targets(targets: Sequence[Any]) -> None:
    """Collate targets that nobody reads."""
