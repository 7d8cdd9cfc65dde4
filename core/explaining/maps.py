"""Methods that explain a score: maps over the network's input, higher where the score depends more on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiongraft.backbone import Features
from visiongraft.errors import OptionError, PluginError
from visiongraft.extra_outputs import first_features
from visiongraft.network import Network, restored
from visiongraft.task_contract.explained import Explained

STEPS = 32  # of the path of integrated gradients
PATCHES = 7  # patches of occlusion, and cells of a mask of RISE, on each side
MASKS = 512  # of RISE
BATCH = 32


@dataclass(frozen=True)
class Scored:
    """A network and the score to explain.

    Attributes:
        network: In evaluation mode.
        explained: The score.
        size: Height and width of the image, to which full-resolution outputs are resized.
    """

    network: Network
    explained: Explained
    size: tuple[int, int]

    def __call__(self, images: Tensor) -> Tensor:
        """Compute the score, (N,), of preprocessed images."""
        return self.with_features(images)[1]

    def with_features(self, images: Tensor) -> tuple[Features, Tensor]:
        """Compute features and score."""
        with first_features(self.network.backbone) as found:
            outputs = restored(self.network, images, *self.size)
        return found[0], self.explained.score(found[0], outputs)

    def many(self, images: Tensor) -> Tensor:
        """Compute the scores of many images, without gradients."""
        with torch.no_grad():
            return torch.cat([self(part) for part in images.split(BATCH)])

    @property
    def measured(self) -> Scored:
        """The same network, with what checks measure as its score."""
        measure = self.explained.measure or self.explained.score
        return replace(self, explained=replace(self.explained, score=measure))


def grad_cam(score: Scored, image: Tensor) -> Tensor:
    """Compute Grad-CAM (Selvaraju et al., 2017) at the last feature map that the score depends on.

    Args:
        score: What to explain.
        image: float (1, C, height, width), preprocessed.

    Returns:
        float32 (height, width), non-negative.
    """
    maps, gradients = _last_map(score, image)
    weights = gradients.mean((2, 3), keepdim=True)
    return _upsampled((weights * maps).sum(1).relu(), image)


def layer_cam(score: Scored, image: Tensor) -> Tensor:
    """Compute LayerCAM (Jiang et al., 2021), whose weights differ between positions; see ``grad_cam``."""
    maps, gradients = _last_map(score, image)
    return _upsampled((gradients.relu() * maps).sum(1).relu(), image)


def integrated_gradients(score: Scored, image: Tensor) -> Tensor:
    """Compute integrated gradients (Sundararajan et al., 2017) from the mean color, summed over channels."""
    found = (
        _captum()
        .IntegratedGradients(score)
        .attribute(image, n_steps=STEPS, internal_batch_size=BATCH)
    )
    return _absolute(found)


def occlusion(score: Scored, image: Tensor) -> Tensor:
    """Compute how much the score falls where a patch is covered with the mean color (Zeiler and Fergus, 2014)."""
    channels, height, width = image.shape[1:]
    patch = (channels, max(1, height // PATCHES), max(1, width // PATCHES))
    stride = (channels, max(1, patch[1] // 2), max(1, patch[2] // 2))
    with torch.no_grad():
        found = (
            _captum()
            .Occlusion(score)
            .attribute(
                image, sliding_window_shapes=patch, strides=stride, perturbations_per_eval=BATCH
            )
        )
    covered: Tensor = found.mean(1)[0]
    return covered.relu().float().cpu()


def rise(score: Scored, image: Tensor) -> Tensor:
    """Compute RISE (Petsiuk et al., 2018): where scores of randomly masked images are higher than their mean."""
    height, width = image.shape[2:]
    generator = torch.Generator().manual_seed(0)
    cells = torch.randint(0, 2, (MASKS, 1, PATCHES, PATCHES), generator=generator).float()
    shifts = torch.rand(MASKS, 2, generator=generator).tolist()
    cell = (-(-height // PATCHES), -(-width // PATCHES))
    full = ((PATCHES + 1) * cell[0], (PATCHES + 1) * cell[1])
    total = torch.zeros(height, width)
    masks, scores = [], []
    for start in range(0, MASKS, BATCH):
        large = F.interpolate(cells[start : start + BATCH], size=full, mode="bilinear")
        own = []
        for mask, (down, right) in zip(large, shifts[start : start + BATCH], strict=True):
            top, left = int(down * cell[0]), int(right * cell[1])
            own.append(mask[:, top : top + height, left : left + width])
        masks.append(torch.stack(own))
        scores.append(score.many(image * masks[-1].to(image.device)).cpu().float())
    mean = torch.cat(scores).mean()
    for part, values in zip(masks, scores, strict=True):
        total += (part[:, 0] * (values - mean)[:, None, None]).sum(0)
    return (total / MASKS).relu()


def attention_rollout(score: Scored, image: Tensor) -> Tensor:
    """Compute attention rollout (Abnar and Zuidema, 2020) of a vision transformer.

    It follows attention through all layers and is the same whatever the score.

    Raises:
        OptionError: The backbone is not a vision transformer with attention over all patches.
    """
    with _attention(score.network.backbone) as found, torch.no_grad():
        score(image)
    name = score.network.backbone.info.name
    square = [a.shape[-1] for a in found]
    if not found or len(set(square)) != 1 or any(a.shape[-2] != a.shape[-1] for a in found):
        raise OptionError(
            f"attention_rollout needs a vision transformer of timm with attention over all patches, which "
            f"{name!r} is not; choose grad_cam or rise"
        )
    tokens = square[0]
    rolled = torch.eye(tokens)
    for attention in found:
        own = attention[0].float().mean(0).cpu() + torch.eye(tokens)
        rolled = own / own.sum(1, keepdim=True) @ rolled
    rows, columns = _patches(score.network, image, tokens)
    prefix = tokens - rows * columns
    received = rolled[0, prefix:] if prefix else rolled.mean(0)
    return _upsampled(received.reshape(1, rows, columns), image)


METHODS: Mapping[str, Callable[[Scored, Tensor], Tensor]] = {
    each.__name__: each
    for each in (grad_cam, layer_cam, integrated_gradients, occlusion, attention_rollout, rise)
}


def _last_map(score: Scored, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the coarsest feature map that the score depends on, and the gradient of the score there."""
    image = image.detach().requires_grad_()  # so that frozen backbones have gradients, too
    with torch.enable_grad():
        features, value = score.with_features(image)
        if not value.requires_grad:
            raise PluginError(
                "the score has no gradients, so that grad_cam and layer_cam cannot explain it; choose rise"
            )
        found = torch.autograd.grad(value.sum(), features.maps, allow_unused=True)
    for maps, gradients in zip(reversed(features.maps), reversed(found), strict=True):
        if gradients is not None and maps.ndim == 4 and bool(gradients.abs().sum() > 0):
            return maps.detach(), gradients
    raise OptionError(
        f"no feature map of {score.network.backbone.info.name!r} leads to the score; choose "
        "integrated_gradients or rise"
    )


def _upsampled(maps: Tensor, image: Tensor) -> Tensor:
    """Resize a map (1, h, w) to the network's input."""
    size = tuple(image.shape[2:])
    return F.interpolate(maps[None].float().cpu(), size=size, mode="bilinear")[0, 0].detach()


def _absolute(found: Tensor) -> Tensor:
    return found.detach().sum(1)[0].abs().float().cpu()


@contextmanager
def _attention(backbone: nn.Module) -> Iterator[list[Tensor]]:
    """Yield the attention of each layer, (N, heads, T, T), as it is computed."""
    found: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        found.append(inputs[0].detach())

    handles, fused = [], []
    for module in backbone.modules():
        dropout = getattr(module, "attn_drop", None)
        if isinstance(dropout, nn.Module) and hasattr(module, "fused_attn"):
            fused.append((module, module.fused_attn))
            module.fused_attn = False  # type: ignore[assignment] # the fused kernel returns no attention
            handles.append(dropout.register_forward_hook(keep))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
        for module, value in fused:
            module.fused_attn = value


def _patches(network: Network, image: Tensor, tokens: int) -> tuple[int, int]:
    """Return the number of patches down and across."""
    stride = network.backbone.info.strides[-1]
    height, width = image.shape[2:]
    rows, columns = height // stride, width // stride
    if rows * columns > tokens:
        side = int(np.sqrt(tokens))
        return side, side
    return rows, columns


def _captum() -> Any:
    try:
        from captum import attr
    except ImportError as error:
        raise PluginError(
            'integrated_gradients and occlusion need captum; pip install "visiongraft[explain]"'
        ) from error
    return attr
