"""Transfer losses: what transfer learning adds to the task's own loss.

A transfer loss sees in every training step the batch, the network, and a read-only copy of the
network that it started from: its backbone, and its head if there is one. It may also use streams,
such as unlabeled images of another domain.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor, distributed, nn

from visiongraft.backbone import Backbone, Features
from visiongraft.data.batch import Batch
from visiongraft.errors import TrainingError
from visiongraft.task import LossParts, Task

if TYPE_CHECKING:
    from visiongraft.network import Network

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass
class TransferStep:
    """What a transfer loss sees of one training step.

    Attributes:
        backbone: The backbone that trains.
        head: The task's head.
        source: The backbone as it was before training, frozen and in evaluation mode.
        batch: The images, targets and positions of the step's samples.
        task: The task.
        source_head: The head that the source backbone was trained with, from ``Features`` to
            outputs, frozen and in evaluation mode; ``None`` if no loss of the run needs it.
        seen: Images (N, C, H, W) and ``Features`` of the step's last pass through the backbone;
            ``None`` if no loss of the run reads features.
        returned: What the head returned last; ``None`` if no loss of the run reads outputs.
    """

    backbone: Backbone
    head: nn.Module
    source: Backbone
    batch: Batch
    task: Task
    source_head: nn.Module | None = None
    seen: tuple[Tensor, Features] | None = None
    returned: Any = None
    _source_features: Features | None = field(default=None, repr=False)
    _source_outputs: Any = field(default=None, repr=False)
    _stream_features: dict[str, Features] = field(default_factory=dict, repr=False)
    _stream_outputs: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def images(self) -> Tensor:
        """The preprocessed images, float (N, C, height, width), that the backbone was given."""
        return self._seen()[0]

    @property
    def features(self) -> Features:
        """What the backbone made of the batch, with gradients."""
        return self._seen()[1]

    @property
    def outputs(self) -> Any:
        """What the head returned for the batch, with gradients."""
        if self.returned is None:
            raise TrainingError(
                "the transfer loss reads outputs but does not declare it, or the task's step never "
                "ran the head; set reads_outputs = True on the loss's class"
            )
        return self.returned

    def source_features(self) -> Features:
        """Compute the features of the source backbone for the same images, without gradients.

        All losses of a step share the result.
        """
        if self._source_features is None:
            with torch.no_grad():
                self._source_features = self.source(self._seen()[0])
        return self._source_features

    def source_outputs(self) -> Any:
        """Compute the outputs of the source backbone and its head, without gradients."""
        if self.source_head is None:
            raise TrainingError(
                "the transfer loss reads the source's outputs but does not declare it; set "
                "needs_source_head = True on the loss's class"
            )
        if self._source_outputs is None:
            with torch.no_grad():
                self._source_outputs = self.source_head(self.source_features())
        return self._source_outputs

    def stream_features(self, name: str) -> Features:
        """Compute the features of a stream's batch, with gradients.

        All losses of a step share the result. Batch norm that trains normalizes the batch of a stream
        by itself, and takes it into its running statistics.

        Args:
            name: One of ``TransferLoss.streams``.
        """
        if name not in self._stream_features:
            self._stream_features[name] = self.backbone(self.batch.streams[name].images)
        return self._stream_features[name]

    def stream_outputs(self, name: str) -> Any:
        """Compute what the head returns for a stream's batch, with gradients.

        Args:
            name: One of ``TransferLoss.streams``.
        """
        if name not in self._stream_outputs:
            self._stream_outputs[name] = self.head(self.stream_features(name))
        return self._stream_outputs[name]

    def gathered(self, *rows: Tensor) -> tuple[Tensor, ...]:
        """Collect values of the batch's images from all processes of the run.

        A loss that remembers images, in a queue say, must remember those of all processes: buffers are
        the same in each, and checkpoints contain those of the first. All processes have to call this
        equally often.

        Args:
            *rows: Tensors (N, ...), one row for each image of the batch.

        Returns:
            The rows of all processes in the order of the whole batch, each image once, without
            gradients.
        """
        own = [self.batch.indices, *(tensor.detach() for tensor in rows)]
        if not (distributed.is_available() and distributed.is_initialized()):
            return tuple(own[1:])
        everyones: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(everyones, [tensor.cpu() for tensor in own])
        indices, *found = map(torch.cat, zip(*everyones, strict=True))
        # Processes get the images of a batch in turn. One without images has borrowed one of another.
        places = torch.cat([torch.arange(len(each[0])) for each in everyones])
        first: dict[int, int] = {}
        for row in places.argsort(stable=True).tolist():
            first.setdefault(int(indices[row]), row)
        chosen = torch.tensor(list(first.values()))
        return tuple(
            tensor[chosen].to(like.device) for tensor, like in zip(found, rows, strict=True)
        )

    def _seen(self) -> tuple[Tensor, Features]:
        if self.seen is None:
            raise TrainingError(
                "the transfer loss reads features but does not declare it, or the task's step never "
                "ran the backbone; set reads_features = True on the loss's class"
            )
        return self.seen


class Holder(nn.Module):
    """A module that holds others which are no part of it: read-only, and neither trained nor saved."""

    def __init__(self) -> None:
        super().__init__()
        self._held: tuple[nn.Module, ...] = ()

    @property
    def held(self) -> tuple[nn.Module, ...]:
        """The modules that it holds."""
        return self._held

    def hold(self, module: ModuleT) -> ModuleT:
        """Freeze a module, put it into evaluation mode and keep it; it goes to other devices with this one.

        Args:
            module: Such as a teacher.

        Returns:
            The module.
        """
        # Inside a tuple, where `nn.Module` does not register it.
        self._held = (*self._held, module.requires_grad_(False).eval())
        return module

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        for module in self._held:
            module._apply(fn, recurse)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


class TransferLoss(Holder, ABC):
    """Base of transfer losses; options are the constructor's keywords after the modules.

    The loss itself is a module: parameters that it registers are trained with the head,
    checkpointed and resumed, and never exported; parameters with ``requires_grad=False`` stay
    frozen under the receipt. It must not register the source: what it reads of other networks, such
    as a teacher, it keeps with ``hold``, and what it trains of the source head is a copy.

    Args:
        backbone: The backbone that will train.
        source: The read-only copy, equal to it now.

    If ``needs_source_head`` is set, the constructor has a third parameter before its options: the
    source head, read-only.

    Attributes:
        name: The name by which users select the loss.
        reads_features: Whether ``forward`` or ``prepare`` uses images, feature maps or embeddings.
            If so, each step keeps them, and features are not cached, since a cache has no images
            for the source.
        reads_outputs: Whether ``forward`` uses what the head returned.
        needs_source_head: Whether the loss needs the head that the backbone was trained with. A run
            whose backbone comes without one is refused.
        streams: Names of the further datasets that ``forward`` uses, see ``Task.streams``.
        adapts_to: Names of the streams with images like those that the model is for. They are measured
            after each epoch, without labels, and ``adapt`` gets them.
        checked_with: Name of the task that the conformance kit checks the loss with; ``None`` for one of
            class ids. Set it if the loss is for one task.
        adapts_frozen: Whether ``adapt`` may change frozen buffers; an instance may set it.
        strength_option: Name of the option, a number of at least 0, of which a run may try several values and
            keep the best; no option needs to have this name.

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
                    return {"distance": self.weight * moved.square().mean()}
    """

    name: ClassVar[str]
    reads_features: ClassVar[bool] = False
    reads_outputs: ClassVar[bool] = False
    needs_source_head: ClassVar[bool] = False
    streams: ClassVar[tuple[str, ...]] = ()
    adapts_to: ClassVar[tuple[str, ...]] = ()
    checked_with: ClassVar[str | None] = None
    adapts_frozen: bool = False
    strength_option: ClassVar[str] = "strength"

    def __init__(self, backbone: Backbone, source: Backbone) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, step: TransferStep) -> LossParts:
        """Compute the parts that are added to the task's loss.

        Args:
            step: Batch, network, source, and what both made of the images.

        Returns:
            Loss parts by name, see ``Task.build_loss``. A part over images is a mean over the batch,
            so that gradient accumulation and several processes have the same result as one large
            batch; a part over the images of a stream is ``(sum, weight)``.
        """

    def set_up(self, network: Network) -> None:
        """Create what depends on the task and its head, such as a layer with an input for each class.

        Called once after the constructor, also in a resumed run.

        Args:
            network: Backbone, head and task, with their initial weights; it must not be changed.

        Raises:
            OptionError: The loss does not fit the task or the network.
        """

    def idle(self, network: Network) -> str:
        """Tell why the loss can do nothing in a phase; a run without another phase is refused.

        Args:
            network: The network, prepared for the phase: ``requires_grad`` of its parameters is set, and
                ``held_in_eval`` contains the modules that do not train.

        Returns:
            What follows "transfer loss 'name'" in the message, with a remedy; empty if it can.
        """
        return ""

    def prepare(self, steps: Iterable[TransferStep]) -> None:
        """Compute something of the whole training set once, before the first step.

        Results are kept in buffers that the constructor registers, with ``None`` if the dataset
        decides on their shape: checkpoints contain them, and a resumed run does not prepare again.

        Args:
            steps: The training set in order and without augmentation, in batches, with both
                backbones in evaluation mode and without gradients. Each iteration reads the images
                again. Only ``features`` and ``outputs`` that the class declares are there.
        """

    def adapt(self, network: Network, targets: Mapping[str, Iterable[Batch]]) -> None:
        """Change buffers of the network that is evaluated and kept after an epoch.

        Training goes on with the buffers as they were before. With several processes each calls it
        with all images, and must come to the same result.

        Args:
            network: The network in evaluation mode; gradients are off.
            targets: The streams of ``adapts_to`` in order and without augmentation, in batches on the
                device. Each iteration loads the images again.
        """

    def licenses(self) -> Mapping[str, str]:
        """Return the licenses of what the loss learns from beside the source, such as a teacher.

        Returns:
            As ``visiongraft.backbone.licenses`` returns them for a provenance; the model states them.
        """
        return {}

    def files(self) -> Mapping[str, Path]:
        """Return the files that the loss computes from, by option; a run records their content."""
        return {}


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

    @property
    def strengths(self) -> Sequence[Any] | None:
        """The values of the strength among which a run chooses; ``None`` if there is a single one."""
        value = self.options.get(self.kind.strength_option)
        return value if isinstance(value, (list, tuple)) else None


def options_of(kind: type[TransferLoss]) -> list[inspect.Parameter]:
    """Return the parameters of a loss's constructor that are options."""
    parameters = list(inspect.signature(kind).parameters.values())
    return parameters[2 + kind.needs_source_head :]
