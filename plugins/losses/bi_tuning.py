"""Bi-Tuning: contrast images with each other and with the classifier, over queues of keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from visiongraft.backbone import Backbone
from visiongraft.errors import OptionError
from visiongraft.options import check_fraction
from visiongraft.plugins.losses.checks import check_count, check_positive, check_strength
from visiongraft.plugins.losses.classes import required_class_ids
from visiongraft.training.transfer_losses import TransferLoss, TransferStep


class BiTuning(TransferLoss):
    """Bi-Tuning: contrastive losses on embeddings and on the classifier (Zhong et al., 2020).

    ``strength * (CCE + CCL)``, both the mean over images of
    ``KL(uniform over positives || softmax over all keys of query . key / T)``, where the keys are one
    of the image itself and K of each of C classes, and the positives the own key and the K of the
    image's class:

    - CCE: the query is the classifier's row ``[W_y, b_y]`` of the image's class, without gradient;
      keys are embeddings ``[h, 1]`` (D + 1), the own one with gradient.
    - CCL: the query is a linear projection of the embedding, keys are such projections of the key
      encoder, an average of the backbone: ``key = momentum * key + (1 - momentum) * backbone``.

    All are divided by their norms. Queues and key encoder are buffers, so that a run resumes exactly;
    with several processes the queues get the keys of all of them.

    Deviations from the official code: queues begin with the source's embeddings of the training set
    rather than at random (those of classes without training images with zeros), the key encoder is
    in evaluation mode with averaged batch norm statistics, and its view of an image is the query's own.

    Args:
        backbone: The backbone that will train.
        source: The read-only copy, whose modules compute the keys.
        strength: Weight of the loss.
        queue: Keys of each class, K.
        temperature: T.
        momentum: Of the key encoder.
        projection: Length of the projections.
    """

    name: ClassVar[str] = "bi_tuning"
    reads_features: ClassVar[bool] = True
    embedding_queue: Tensor
    projection_queue: Tensor

    def __init__(
        self,
        backbone: Backbone,
        source: Backbone,
        *,
        strength: float = 0.1,
        queue: int = 16,
        temperature: float = 0.07,
        momentum: float = 0.999,
        projection: int = 128,
    ) -> None:
        super().__init__(backbone, source)
        check_strength(self.name, strength=strength)
        check_count(self.name, queue=queue, projection=projection)
        check_positive(self.name, temperature=temperature)
        check_fraction("momentum", momentum)
        self.strength, self.queue, self.temperature = strength, queue, temperature
        self.momentum = momentum
        self.project = nn.Linear(source.info.embedding_dim, projection)
        for name, tensor in source.state_dict().items():
            self.register_buffer(_key(f"backbone.{name}"), tensor.detach().clone())
        for name, tensor in self.project.state_dict().items():
            self.register_buffer(_key(f"project.{name}"), tensor.detach().clone())
        self.register_buffer("embedding_queue", None)  # (C, K, D + 1)
        self.register_buffer("projection_queue", None)  # (C, K, projection)

    def prepare(self, steps: Iterable[TransferStep]) -> None:
        """Fill the queues with the source's embeddings of the training set."""
        keys: dict[int, list[Tensor]] = {}
        classes = 0
        for step in steps:
            classes = len(_classifier(step)[0])
            for i, vector in zip(
                required_class_ids(step, self.name).tolist(), step.features.pooled, strict=True
            ):
                keys[i] = [*keys.get(i, []), vector.float()][-self.queue :]
        blank = [torch.zeros_like(next(iter(keys.values()))[0])]  # of classes without images
        order = torch.arange(self.queue)
        filled = [
            torch.stack(own)[order % len(own)]
            for own in (keys.get(c, blank) for c in range(classes))
        ]
        pooled = torch.stack(filled)
        self.embedding_queue = _with_one(pooled)
        self.projection_queue = F.normalize(self.project(pooled), dim=-1)

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        """Return the parts ``classifier`` (CCE) and ``images`` (CCL)."""
        ids = required_class_ids(step, self.name)
        weight, bias = _classifier(step)
        queries = F.normalize(torch.cat([weight, bias[:, None]], dim=1).detach().float(), dim=1)
        embeddings = _with_one(step.features.pooled.float())
        projections = F.normalize(self.project(step.features.pooled).float(), dim=1)
        with torch.no_grad():
            if self.training:
                self._follow(step.backbone)
            keys = self._keys(step)
        parts = {
            "classifier": self._contrast(queries[ids], embeddings, self.embedding_queue, ids),
            "images": self._contrast(projections, keys[1], self.projection_queue, ids),
        }
        if self.training:
            classes, *everyones = step.gathered(ids, *keys)
            for i, embedding, projection in zip(classes.tolist(), *everyones, strict=True):
                self.embedding_queue[i] = _pushed(self.embedding_queue[i], embedding)
                self.projection_queue[i] = _pushed(self.projection_queue[i], projection)
        return {name: self.strength * part for name, part in parts.items()}

    def _contrast(self, queries: Tensor, own: Tensor, queue: Tensor, ids: Tensor) -> Tensor:
        """Compare queries (N, D) with their own keys (N, D) and with a queue (C, K, D)."""
        classes, length, _ = queue.shape
        others = torch.einsum("nd,ckd->nck", queries, queue.clone())
        mine = (queries * own).sum(1, keepdim=True)
        logits = torch.cat([mine, others.flatten(1)], dim=1) / self.temperature
        same = F.one_hot(ids, classes).repeat_interleave(length, dim=1)
        positive = torch.cat([same.new_ones(len(ids), 1), same], dim=1).float()
        uniform = positive / (length + 1)
        return F.kl_div(F.log_softmax(logits, dim=1), uniform, reduction="batchmean")

    def _follow(self, backbone: Backbone) -> None:
        """Move the key encoder towards the backbone."""
        for part, module in (("backbone", backbone), ("project", self.project)):
            for name, tensor in module.state_dict().items():
                key = self.get_buffer(_key(f"{part}.{name}"))
                if key.is_floating_point():
                    key.lerp_(tensor.detach().to(key.dtype), 1 - self.momentum)
                else:
                    key.copy_(tensor)

    def _keys(self, step: TransferStep) -> tuple[Tensor, Tensor]:
        """Return the keys of the batch: (N, D + 1) and (N, projection)."""
        own = {n: self.get_buffer(_key(f"backbone.{n}")) for n in step.source.state_dict()}
        pooled = functional_call(step.source, own, (step.images,)).pooled.float()
        weight = self.get_buffer(_key("project.weight"))
        projected = F.linear(pooled, weight, self.get_buffer(_key("project.bias")))
        return _with_one(pooled), F.normalize(projected.float(), dim=1)


def _classifier(step: TransferStep) -> tuple[Tensor, Tensor]:
    """Return matrix (C, D) and intercept (C,) of a head that is linear in the embedding."""
    layers = [module for module in step.head.modules() if isinstance(module, nn.Linear)]
    dim = step.source.info.embedding_dim
    if not layers or layers[-1].in_features != dim:
        raise OptionError(
            "transfer loss 'bi_tuning' needs a head that ends with a linear layer on the embedding of "
            f"{dim} values, without a hidden layer; choose another loss"
        )
    weight, bias = layers[-1].weight, layers[-1].bias
    return weight, weight.new_zeros(len(weight)) if bias is None else bias


def _with_one(vectors: Tensor) -> Tensor:
    """Append 1 to vectors (..., D) and divide them by their norms."""
    ones = vectors.new_ones(*vectors.shape[:-1], 1)
    return F.normalize(torch.cat([vectors, ones], dim=-1), dim=-1)


def _pushed(queue: Tensor, key: Tensor) -> Tensor:
    """Return a queue (K, D) with a key in front and without its last one."""
    return torch.cat([key[None].to(queue.dtype), queue[:-1]])


def _key(name: str) -> str:
    """Return the name of the buffer that holds a tensor of the key encoder."""
    return "key_" + name.replace(".", "/")
