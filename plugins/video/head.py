"""Heads that join the embeddings of the frames of a clip."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from visiongraft.backbone import Features

SCORING = 128  # width of the layer that scores frames
WIDTH, LAYERS, HEADS = 256, 2, 4  # of the transformer


class Mean(nn.Module):
    """The mean over frames.

    Args:
        dim: Dimension of the embedding.
        frames: Frames of a clip.
    """

    def __init__(self, dim: int, frames: int) -> None:
        super().__init__()

    def forward(self, frames: Tensor) -> Tensor:
        """Join frames, (N, T, dim), to (N, dim)."""
        return frames.mean(1)


class Attention(nn.Module):
    """A mean weighted by a learned score of each frame; it begins as the plain mean.

    Ilse et al. (2018), "Attention-based Deep Multiple Instance Learning".

    Args:
        dim: Dimension of the embedding.
        frames: Frames of a clip.
    """

    def __init__(self, dim: int, frames: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.hidden = nn.Linear(dim, SCORING)
        self.score = nn.Linear(SCORING, 1)
        nn.init.zeros_(self.score.weight)

    def forward(self, frames: Tensor) -> Tensor:
        """Join frames, (N, T, dim), to (N, dim)."""
        scores = self.score(self.hidden(self.norm(frames)).tanh())
        joined: Tensor = (scores.softmax(1) * frames).sum(1)
        return joined


class Transformer(nn.Module):
    """A small transformer over the frames, added to their mean; it begins as the mean alone.

    Args:
        dim: Dimension of the embedding.
        frames: Frames of a clip.
    """

    def __init__(self, dim: int, frames: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, WIDTH))
        self.positions = nn.Parameter(0.02 * torch.randn(frames, WIDTH))
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 2 * WIDTH, dropout=0.1, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.output = nn.Linear(WIDTH, dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, frames: Tensor) -> Tensor:
        """Join frames, (N, T, dim), to (N, dim)."""
        encoded = self.encoder(self.project(frames) + self.positions)
        joined: Tensor = frames.mean(1) + self.output(encoded.mean(1))
        return joined


TEMPORAL: dict[str, Callable[[int, int], nn.Module]] = {
    "mean": Mean,
    "attention": Attention,
    "transformer": Transformer,
}


def mean_of(pooled: Tensor) -> Tensor:
    """Return the mean embedding of a video, (N, dim), of those of frames, (N, T, dim), or of clips."""
    return pooled.mean(1) if pooled.ndim == 3 else pooled


class VideoHead(nn.Module):
    """Joins the frames of each clip, classifies clips, and averages the logits of those of a video.

    Args:
        temporal: From the embeddings of frames, (N, T, dim), to (N, dim).
        classifier: From features of images to logits (N, classes).
        frames: Frames of a clip.
    """

    def __init__(self, temporal: nn.Module, classifier: nn.Module, frames: int) -> None:
        super().__init__()
        self.temporal, self.classifier, self.frames = temporal, classifier, frames

    def forward(self, features: Features) -> Tensor:
        """Compute logits.

        Args:
            features: The embeddings of frames, (N, clips * frames, dim), are used; of a backbone that
                takes clips as wholes (N, dim).

        Returns:
            (N, classes).
        """
        pooled = features.pooled
        if pooled.ndim == 2:
            alone: Tensor = self.classifier(features)
            return alone
        videos, clips = pooled.shape[0], pooled.shape[1] // self.frames
        joined = self.temporal(pooled.reshape(videos * clips, self.frames, pooled.shape[2]))
        logits: Tensor = self.classifier(Features((), joined))
        return logits.reshape(videos, clips, logits.shape[1]).mean(1)
