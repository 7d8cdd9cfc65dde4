"""Pixel and region losses, their weighted sums, and the auxiliary loss.

Every loss is computed per image and then averaged over the images. This matters for Dice and
Lovász, which other libraries compute over the whole batch: otherwise gradient accumulation and
several processes would not match one large batch. An image whose pixels are all ignored adds
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from segmentation_models_pytorch import losses as smp
from torch import Tensor, nn
from torch.nn import functional as F

from visiongraft.plugins.dense.resizing import resize_bilinear

PerImage = Callable[[Tensor, Tensor], Tensor]


class SegmentationLoss(nn.Module):
    """A weighted sum of losses.

    Args:
        parts: Weight of each loss by name: ``"cross_entropy"``, ``"dice"``, ``"focal"`` or
            ``"lovasz"``.
        kind: ``"multi_class"``, ``"binary"`` or ``"multi_label"``.
        ignored: Target value of ignored pixels.
        weights: Weight of each class; unweighted if empty.
        auxiliary: Weight of the same losses on the auxiliary logits.
    """

    def __init__(
        self,
        parts: Mapping[str, float],
        kind: str,
        ignored: int,
        weights: Sequence[float] = (),
        auxiliary: float = 0.0,
    ) -> None:
        super().__init__()
        self.factors = dict(parts)
        self.ignored = ignored
        self.auxiliary = auxiliary
        self.losses = nn.ModuleDict({n: _build_loss(n, kind, ignored, weights) for n in parts})

    def forward(self, outputs: Mapping[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Compute the losses.

        Args:
            outputs: ``logits``, (N, C, h, w), and optionally ``auxiliary`` of the same form; both
                are resized to the size of the targets.
            targets: int64 (N, H, W) class ids; for multi-label data (N, C, H, W) of 0 and 1.

        Returns:
            The weighted losses by name, and ``auxiliary``.
        """
        results = self._parts(outputs["logits"], targets)
        if "auxiliary" in outputs:
            parts = self._parts(outputs["auxiliary"], targets)
            results["auxiliary"] = self.auxiliary * torch.stack([*parts.values()]).sum()
        return results

    def _parts(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        height, width = targets.shape[-2:]
        logits = resize_bilinear(logits.float(), (height, width))
        pairs = [
            (logits[i : i + 1], targets[i : i + 1])
            for i in range(len(logits))
            if bool((targets[i] != self.ignored).any())
        ]
        results = {}
        for name, loss in self.losses.items():
            # The zero keeps every parameter in the graph, even if all pixels are ignored.
            total = 0.0 * logits.sum()
            for one, target in pairs:
                total = total + loss(one, target)
            results[name] = self.factors[name] * total / max(len(logits), 1)
        return results


class PixelCrossEntropy(nn.Module):
    """Cross-entropy of one image, averaged over its pixels that are not ignored.

    Weighted terms are divided by the number of pixels, not by the sum of their weights.

    Args:
        kind: See ``SegmentationLoss``; binary and multi-label masks use binary cross-entropy.
        ignored: Target value of ignored pixels.
        weights: Weight of each class; for multi-label data of its positive and negative terms.
    """

    weights: Tensor | None

    def __init__(self, kind: str, ignored: int, weights: Sequence[float] = ()) -> None:
        super().__init__()
        self.kind, self.ignored = kind, ignored
        self.register_buffer(
            "weights", torch.tensor(weights, dtype=torch.float32) if weights else None
        )

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of logits (1, C, H, W) and targets (1, H, W) or (1, C, H, W)."""
        counted = targets != self.ignored
        if self.kind == "multi_class":
            terms = F.cross_entropy(
                logits, targets, self.weights, ignore_index=self.ignored, reduction="none"
            )
            return terms.sum() / counted.sum()
        if self.kind == "binary":
            logits = logits[:, 0]
        positive = (targets == 1).to(logits.dtype)
        terms = F.binary_cross_entropy_with_logits(logits, positive, reduction="none") * counted
        if self.weights is not None:
            by_class = self.weights[:, None, None]
            terms = terms * (
                by_class if self.kind == "multi_label" else self.weights[positive.long()]
            )
        return terms.sum() / counted.sum()


class _PerClassLoss(nn.Module):
    """Apply a binary loss to each class of multi-label masks, and average over the classes.

    Pixels are ignored per class.
    """

    weights: Tensor

    def __init__(self, loss: nn.Module, weights: Sequence[float], ignored: int) -> None:
        super().__init__()
        self.loss, self.ignored = loss, ignored
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        total, total_weight = 0.0 * logits.sum(), 0.0
        for i, weight in enumerate(self.weights.tolist() or [1.0] * logits.shape[1]):
            if bool((targets[:, i] != self.ignored).any()):
                total = total + weight * self.loss(logits[:, i : i + 1], targets[:, i : i + 1])
                total_weight += weight
        return total / max(total_weight, 1e-12)


def _build_loss(name: str, kind: str, ignored: int, weights: Sequence[float]) -> nn.Module:
    if name == "cross_entropy":
        return PixelCrossEntropy(kind, ignored, weights)
    if kind == "multi_label":
        return _PerClassLoss(_build_loss(name, "binary", ignored, ()), weights, ignored)
    mode = "binary" if kind == "binary" else "multiclass"
    by_class = list(weights) if weights and kind == "multi_class" else None
    if name == "dice":
        return smp.DiceLoss(mode, ignore_index=ignored, class_weights=by_class)  # type: ignore[no-any-return]
    if name == "focal":
        return smp.FocalLoss(mode, ignore_index=ignored, class_weights=by_class)  # type: ignore[no-any-return]
    return smp.LovaszLoss(mode, per_image=True, ignore_index=ignored)  # type: ignore[no-any-return]
