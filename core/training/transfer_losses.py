"""Transfer losses: regularizers towards the pretrained weights.

A transfer loss is added to the task's own loss in every training step. It sees the network, a
read-only copy of the backbone as it was before training, and what both make of the same images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from visiongraft.backbone import Backbone, Features
from visiongraft.errors import (
    OptionError,
    PluginError,
    ReceiptError,
    TrainingError,
    VisiongraftError,
    type_and_message,
)
from visiongraft.hookspecs import hookimpl
from visiongraft.network import frozen_parameters
from visiongraft.options import is_number
from visiongraft.task import LossParts
from visiongraft.training.freezing import digest


@dataclass
class TransferStep:
    """What a transfer loss sees of one training step.

    Attributes:
        backbone: The backbone that trains.
        head: The task's head.
        source: The backbone as it was before training, frozen and in evaluation mode.
        seen: Images (N, C, H, W) and ``Features`` of the step's last pass through the backbone;
            ``None`` if the loss does not read features.
    """

    backbone: Backbone
    head: nn.Module
    source: Backbone
    seen: tuple[Tensor, Features] | None = None

    @property
    def features(self) -> Features:
        """What the backbone made of the batch, with gradients."""
        return self._seen()[1]

    def source_features(self) -> Features:
        """Compute the features of the source backbone for the same images, without gradients."""
        with torch.no_grad():
            features: Features = self.source(self._seen()[0])
        return features

    def _seen(self) -> tuple[Tensor, Features]:
        if self.seen is None:
            raise TrainingError(
                "the transfer loss reads features but does not declare it, or the task's step never "
                "ran the backbone; set reads_features = True on the loss's class"
            )
        return self.seen


class TransferLoss(nn.Module, ABC):
    """Base of transfer losses; options are the constructor's keywords after the two modules.

    The loss itself is a module: parameters that it registers are trained with the head,
    checkpointed and resumed, and never exported. It must not register the source backbone.

    Args:
        backbone: The backbone that will train.
        source: The read-only copy, equal to it now.

    Attributes:
        name: The name by which users select the loss.
        reads_features: Whether ``forward`` uses feature maps or embeddings. If so, each step keeps
            them, and nothing is replayed, since replay has no images for the source backbone.

    Example:
        ::

            class Embeddings(TransferLoss):
                name = "embeddings"
                reads_features = True

                def __init__(self, backbone, source, *, weight=1.0):
                    super().__init__(backbone, source)
                    self.weight = weight

                def forward(self, step):
                    moved = step.features.pooled - step.source_features().pooled
                    return {"distance": self.weight * moved.square().sum(1).mean()}
    """

    name: ClassVar[str]
    reads_features: ClassVar[bool] = False

    def __init__(self, backbone: Backbone, source: Backbone) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, step: TransferStep) -> LossParts:
        """Compute the parts that are added to the task's loss.

        Args:
            step: Both backbones and their features.

        Returns:
            Loss parts by name, see ``Task.build_loss``. A part over images is a mean over the batch,
            so that gradient accumulation and several processes have the same result as one large
            batch.
        """


class L2SP(TransferLoss):
    """L2-SP: half the squared distance to the starting point (Li et al., 2018).

    It replaces weight decay, so ``weight_decay=0`` goes with it. Frozen parameters do not
    count.

    Args:
        backbone: The backbone that will train.
        source: The starting point.
        alpha: Weight of the distance from the backbone's starting values.
        beta: Weight of the head's squared norm.
    """

    name: ClassVar[str] = "l2_sp"

    def __init__(
        self, backbone: Backbone, source: Backbone, *, alpha: float = 0.1, beta: float = 0.01
    ) -> None:
        super().__init__(backbone, source)
        for option, value in (("alpha", alpha), ("beta", beta)):
            if not (is_number(value) and value >= 0):
                raise OptionError(f"{option}={value!r} of l2_sp is not a number of at least 0")
        self.alpha, self.beta = alpha, beta

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        """Return the two parts, ``backbone`` and ``head``."""
        origin = dict(step.source.named_parameters())
        moved = [p - origin[n] for n, p in step.backbone.named_parameters() if p.requires_grad]
        return {
            "backbone": self.alpha / 2 * _squared_norm(moved, step.head),
            "head": self.beta / 2 * _squared_norm(list(step.head.parameters()), step.head),
        }


def _squared_norm(tensors: list[Tensor], like: nn.Module) -> Tensor:
    if not tensors:
        return next(like.parameters()).new_zeros(())
    return torch.stack([t.square().sum() for t in tensors]).sum()


@dataclass(frozen=True)
class TransferChoice:
    """A transfer loss and the options that a user set.

    Attributes:
        name: By which the loss was found.
        kind: Its class.
        options: Keywords of its constructor.
    """

    name: str
    kind: type[TransferLoss]
    options: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return name and options, from which ``find_transfer_loss`` makes the choice again."""
        return {"name": self.name, "options": dict(self.options)}


class Transfer(nn.Module):
    """A transfer loss at work in one network, with its copy of the source backbone.

    Only the loss is a submodule: the copy is neither saved nor trained, and stays in evaluation
    mode, but goes to the network's device with it.

    Args:
        choice: The loss and its options.
        backbone: The backbone before training; a copy of it is taken.

    Attributes:
        origin: SHA-256 of the copy.

    Raises:
        PluginError: The loss cannot be made, or registers the source backbone.
    """

    def __init__(self, choice: TransferChoice, backbone: Backbone) -> None:
        super().__init__()
        self._hidden = (deepcopy(backbone).requires_grad_(False).eval(),)
        self.name = choice.kind.name
        self.origin = self._digest()
        try:
            self.loss = choice.kind(backbone, self.source, **choice.options)
        except VisiongraftError:
            raise
        except Exception as error:  # a third-party loss may raise any error
            raise PluginError(
                f"transfer loss {choice.name!r} cannot be made: {type_and_message(error)}"
            ) from error
        foreign = {id(p) for p in (*backbone.parameters(), *self.source.parameters())}
        if any(id(parameter) in foreign for parameter in self.loss.parameters()):
            raise PluginError(
                f"transfer loss {choice.name!r} registers a backbone as its own, which would train "
                "and save it twice; take it from the step that forward() receives"
            )
        self.created_frozen = frozen_parameters(self)

    @property
    def source(self) -> Backbone:
        """The backbone as it was before training."""
        return self._hidden[0]

    @property
    def reads_features(self) -> bool:
        """Whether the loss needs every step's images and features."""
        return self.loss.reads_features

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self.source._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def add(
        self, backbone: Backbone, head: nn.Module, compute: Callable[[], LossParts]
    ) -> LossParts:
        """Run the task's training step and add this loss's parts to its own.

        Args:
            backbone: The backbone that trains.
            head: The task's head.
            compute: The task's step.

        Returns:
            All parts; those of this loss are called ``name.part``.
        """
        step = TransferStep(backbone, head, self.source)
        if self.reads_features:

            def keep(module: nn.Module, args: Any, output: Features) -> None:
                step.seen = args[0], output

            handle = backbone.register_forward_hook(keep)
            try:
                parts = compute()
            finally:
                handle.remove()
        else:
            parts = compute()
        return {**parts, **{f"{self.name}.{n}": part for n, part in self.loss(step).items()}}

    def check(self, where: str) -> None:
        """Prove that the source backbone is unchanged.

        Args:
            where: The phase in words, for the message.

        Raises:
            ReceiptError: It has changed.
        """
        if self._digest() != self.origin:
            raise ReceiptError(
                f"the source backbone of transfer loss {self.name!r} changed {where}; it is "
                "read-only"
            )

    def _digest(self) -> str:
        content = "".join(digest(tensor) for tensor in self.source.state_dict().values())
        return sha256(content.encode()).hexdigest()


@hookimpl
def register_losses() -> list[type[TransferLoss]]:
    """Provide the built-in transfer losses."""
    return [L2SP]
