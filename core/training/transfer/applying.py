"""The transfer losses of a run at work, with the source that they read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import nn

from visiongraft.backbone import Backbone, Features
from visiongraft.data.batch import Batch
from visiongraft.errors import PluginError, ReceiptError, VisiongraftError, type_and_message
from visiongraft.network import Network, frozen_parameters
from visiongraft.task import LossParts
from visiongraft.training.freezing import digest
from visiongraft.training.transfer_losses import Holder, TransferChoice, TransferLoss, TransferStep


class Transfer(Holder):
    """The transfer losses of a run, with a read-only copy of the source backbone.

    Only the losses are submodules: source and teachers are neither saved nor trained, and stay in
    evaluation mode, but go to the network's device with it.

    Args:
        choices: The losses and their options.
        network: The network before training; a copy of its backbone is taken.
        source_head: The head that the backbone was trained with, if a loss needs it.

    Attributes:
        losses: The losses.
        origin: SHA-256 of all that is read-only: source backbone, source head, teachers.

    Raises:
        PluginError: A loss cannot be made, or registers the source.
    """

    def __init__(
        self,
        choices: Sequence[TransferChoice],
        network: Network,
        source_head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.hold(deepcopy(network.backbone))
        if source_head is not None:
            self.hold(source_head)
        self._labels = _labels([choice.kind.name for choice in choices])
        self.losses = nn.ModuleList(self._make(choice, network) for choice in choices)
        self._before = self._contents()
        self.origin = sha256("".join(self._before.values()).encode()).hexdigest()
        self.created_frozen = frozen_parameters(self)

    def _make(self, choice: TransferChoice, network: Network) -> TransferLoss:
        arguments: tuple[Any, ...] = (network.backbone, self.source)
        if choice.kind.needs_source_head:
            arguments += (self.source_head,)
        try:
            loss = choice.kind(*arguments, **choice.options)
            loss.set_up(network)
        except VisiongraftError:
            raise
        except Exception as error:  # a third-party loss may raise any error
            raise PluginError(
                f"transfer loss {choice.name!r} cannot be made: {type_and_message(error)}"
            ) from error
        foreign = {id(p) for module in (network, *self._held) for p in module.parameters()}
        if any(id(parameter) in foreign for parameter in loss.parameters()):
            raise PluginError(
                f"transfer loss {choice.name!r} registers a backbone as its own, or the source head, "
                "which would train and save it twice; take it from the step that forward() "
                "receives, or copy it"
            )
        return loss

    @property
    def source(self) -> Backbone:
        """The backbone as it was before training."""
        source = self._held[0]
        assert isinstance(source, Backbone)
        return source

    @property
    def source_head(self) -> nn.Module | None:
        """The head that it was trained with, if a loss needs it."""
        return self._held[1] if len(self._held) > 1 else None

    @property
    def named_losses(self) -> dict[str, TransferLoss]:
        """The losses by name; a name that is used twice is numbered."""
        losses = [loss for loss in self.losses if isinstance(loss, TransferLoss)]
        return dict(zip(self._labels, losses, strict=True))

    @property
    def adapting_losses(self) -> dict[str, TransferLoss]:
        """The losses that adapt the network which is evaluated and kept, by name."""
        return {
            name: loss
            for name, loss in self.named_losses.items()
            if type(loss).adapt is not TransferLoss.adapt
        }

    def reading_features(self) -> str:
        """Return the name of a loss that needs every step's images and features, or nothing."""
        names = (name for name, loss in self.named_losses.items() if loss.reads_features)
        return next(names, "")

    def step(self, network: Network, batch: Batch) -> TransferStep:
        """Return what the losses see of a batch before the network has run."""
        return TransferStep(
            network.backbone, network.head, self.source, batch, network.task, self.source_head
        )

    def add(self, network: Network, batch: Batch, compute: Callable[[], LossParts]) -> LossParts:
        """Run the task's training step and add the losses' parts to its own.

        Args:
            network: The network that trains.
            batch: The step's batch.
            compute: The task's step.

        Returns:
            All parts; those of a loss are called ``name.part``.
        """
        step = self.step(network, batch)
        losses = self.named_losses
        with ExitStack() as hooks:
            if self.reading_features() or any(loss.reads_outputs for loss in losses.values()):
                watch = _Watch(step, bool(self.reading_features()))
                for module, keep in (
                    (network.backbone, watch.keep_features),
                    (network.head, watch.keep_outputs),
                ):
                    hooks.callback(module.register_forward_hook(keep).remove)
            parts = compute()
        if not isinstance(parts, Mapping):  # who reads the parts says what is wrong
            return parts
        added = {
            f"{name}.{part}": value
            for name, loss in losses.items()
            for part, value in loss(step).items()
        }
        return {**parts, **added}

    def check(self, where: str) -> None:
        """Prove that the source, and what the losses hold, is unchanged.

        Args:
            where: The phase in words, for the message.

        Raises:
            ReceiptError: It has changed.
        """
        for what, content in self._contents().items():
            if content != self._before[what]:
                raise ReceiptError(f"{what} changed {where}; it is read-only")

    def _contents(self) -> dict[str, str]:
        """Return the digests of the tensors of each read-only module, by what it is."""
        kind = "loss" if len(self._labels) == 1 else "losses"
        users = f"of transfer {kind} {', '.join(map(repr, self._labels))}"
        names = ("the source backbone", "the source head")
        modules = {f"{n} {users}": m for n, m in zip(names, self.held, strict=False)}
        for name, loss in self.named_losses.items():
            for index, module in enumerate(loss.held):
                modules[f"module {index + 1} that transfer loss {name!r} holds"] = module
        return {
            what: "".join(digest(tensor) for tensor in module.state_dict().values())
            for what, module in modules.items()
        }

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Make room for what ``prepare`` determined, whose shapes a new loss does not know."""
        device = next(self.source.parameters()).device
        for index, loss in enumerate(self.losses):
            for name, buffer in loss._buffers.items():
                saved = state_dict.get(f"{prefix}losses.{index}.{name}")
                if saved is not None and (buffer is None or buffer.shape != saved.shape):
                    loss._buffers[name] = torch.empty_like(saved, device=device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


@dataclass
class _Watch:
    """Keeps what backbone and head make of the batch, and not of a stream if the step runs both.

    Attributes:
        step: Where to.
        features: Whether to keep features, too.
        own: The features of the batch's images.
        returned_own: Whether the outputs that were kept are those of the batch's images.
    """

    step: TransferStep
    features: bool
    own: Features | None = None
    returned_own: bool = False

    def keep_features(self, module: nn.Module, args: Any, output: Features) -> None:
        own = args[0] is self.step.batch.images
        if self.features and (own or self.own is None):
            self.step.seen = args[0], output
        if own:
            self.own = output

    def keep_outputs(self, module: nn.Module, args: Any, output: Any) -> None:
        own = self.own is not None and args[0] is self.own
        if own or not self.returned_own:
            self.step.returned = output
        self.returned_own = self.returned_own or own


def _labels(names: Sequence[str]) -> list[str]:
    """Number names that appear again.

    Examples:
        >>> _labels(["bss", "lwf", "bss"])
        ['bss', 'lwf', 'bss_2']
    """
    return [
        name if names.index(name) == i else f"{name}_{list(names[: i + 1]).count(name)}"
        for i, name in enumerate(names)
    ]
