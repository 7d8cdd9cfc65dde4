"""Backbone, head and loss as one module, and the very graph that is evaluated and exported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from visiongraft.backbone import Backbone
from visiongraft.comparison import Arrays, Disagreement, comparing_extras
from visiongraft.errors import OptionError, PluginError
from visiongraft.extra_outputs import add_extra_outputs, find_extra_outputs, first_features
from visiongraft.preprocess import Preprocess
from visiongraft.task import Decoded, LossParts, Task
from visiongraft.task_contract.loss import build_loss

if TYPE_CHECKING:
    from visiongraft.data.batch import Batch
    from visiongraft.training.transfer.applying import Transfer


SAVED = ("backbone.", "head.", "preprocess.")  # the parts that inference needs


class Network(nn.Module):
    """A task's trainable whole: backbone, head and loss.

    ``train()`` leaves frozen modules in evaluation mode, however often it is called.

    Args:
        backbone: The pretrained part.
        task: Builds head and loss.

    Attributes:
        transfer: The regularizers towards the pretrained network, if there are any.
        created_frozen: Names of the parameters that head and loss were created with
            ``requires_grad=False``, and of those that adapters froze; these are never trained.
        adapter_parameters: Names of the parameters that each adapter trains.
        base_values: The values that adapters may change, as they were before, by name in the backbone.
        base_sha256: Digest of the backbone as it was before adapters that leave it frozen.
        trained: Names of the parameters that the current phase trains.
    """

    transfer: Transfer | None

    def __init__(self, backbone: Backbone, task: Task) -> None:
        super().__init__()
        self.preprocess = Preprocess(backbone.info.preprocess, task.inputs)
        resize = backbone.info.preprocess.resize
        if task.full_resolution_outputs and resize in ("crop", "letterbox"):
            raise OptionError(
                f"task {task.name!r} needs whole images; leave out resize={resize!r}, or pass 'pad', which keeps "
                "their aspect ratio"
            )
        self.backbone = backbone
        self.head = task.build_head(backbone)
        self.loss = build_loss(task, backbone)
        self.transfer = None
        _refuse_lazy(task, self.head, self.loss)
        self.created_frozen = frozenset(
            f"{part}.{name}"
            for part in ("head", "loss")
            for name in frozen_parameters(self.get_submodule(part))
        )
        self.adapter_parameters: dict[str, frozenset[str]] = {}
        self.base_values: dict[str, Tensor] = {}
        self.base_sha256 = ""
        self.task = task
        self.trained: frozenset[str] = frozenset()
        self.held_in_eval: tuple[nn.Module, ...] = ()

    def forward(self, batch: Batch) -> LossParts:
        """Compute the loss parts of a training batch."""
        if self.transfer is None or not batch.step.transfer:
            return self.task.training_step(self, batch)
        return self.transfer.add(self, batch, lambda: self.task.training_step(self, batch))

    def backbones(self) -> dict[str, Backbone]:
        """Return the backbone and those that the loss holds, such as copies of it, by module name."""
        inside = self.loss.named_modules(prefix="loss")
        held = {name: module for name, module in inside if isinstance(module, Backbone)}
        return {"backbone": self.backbone, **held}

    def inference_state(self) -> dict[str, Tensor]:
        """Return the tensors that a saved model contains: all but those of the losses."""
        return {n: t for n, t in self.state_dict().items() if n.startswith(SAVED)}

    def decode(self, images: Tensor, sizes: Tensor) -> Decoded:
        """Predict from preprocessed images.

        Args:
            images: float (N, C, height, width), preprocessed.
            sizes: int64 (N, 2), original heights and widths; all equal if ``one_size``.

        Returns:
            The task's decoded outputs.
        """
        return self.task.decode(self.outputs(images, sizes), sizes)

    def outputs(self, images: Tensor, sizes: Tensor) -> Any:
        """Compute what ``Task.decode`` receives; see ``decode``."""
        size = self.preprocess.config.size
        if self.task.full_resolution_outputs and len(sizes):
            size = tuple(sizes[0].tolist())
            assert bool((sizes == sizes[0]).all()), "images of several sizes"
        return restored(self, images, *size)

    @property
    def one_size(self) -> bool:
        """Whether a batch to decode must hold images of one size."""
        return bool(self.task.full_resolution_outputs) or self.preprocess.config.resize == "pad"

    def preprocess_on_cpu(self) -> Preprocess:
        """Return a copy of the preprocessing on the CPU, for loading."""
        return Preprocess(self.preprocess.config, self.preprocess.inputs)

    def train(self, mode: bool = True) -> Network:
        """Set training or evaluation mode; frozen modules always stay in evaluation mode."""
        super().train(mode)
        for module in self.held_in_eval:
            module.training = False
        return self


def frozen_parameters(module: nn.Module) -> frozenset[str]:
    """Return the names of the parameters that require no gradient."""
    return frozenset(n for n, p in module.named_parameters() if not p.requires_grad)


def _refuse_lazy(task: Task, head: nn.Module, loss: nn.Module) -> None:
    for part, module in (("head", head), ("loss", loss)):
        for name, parameter in module.named_parameters():
            if isinstance(parameter, UninitializedParameter):
                raise PluginError(
                    f"task {task.name!r}: {part}.{name} has no shape before the first step; use no lazy "
                    "modules: build_head(backbone) is passed the backbone, with info.embedding_dim"
                )


class InferenceGraph(nn.Module):
    """Raw samples in, final predictions out: what every exporter traces.

    Args:
        network: A trained network; its own modules are used, not copies.
        extra_outputs: Names of the extra outputs to return beside the task's results.

    Attributes:
        extra_outputs: What computes each extra output.
        takes_prepared: Whether its input is preprocessed images, at the network's own size.
    """

    takes_prepared = False

    def __init__(self, network: Network, extra_outputs: Sequence[str] = ()) -> None:
        super().__init__()
        self.extra_outputs = find_extra_outputs(network.task, extra_outputs)
        self.preprocess = network.preprocess
        self.backbone = network.backbone
        self.head = network.head
        self.task = network.task

    def forward(self, images: Tensor) -> Decoded:
        """Predict.

        Args:
            images: A raw batch of what ``Task.inputs`` describes; images are uint8 (N, H, W, C) in
                0..255, any H and W.

        Returns:
            The task's decoded outputs, and the extra outputs.

        Raises:
            OptionError: An extra output has the name of a decoded one.
        """
        size = self.preprocess.inputs.size(images.shape)
        sizes = images.new_empty((images.shape[0], 2), dtype=torch.int64)
        sizes[:, 0], sizes[:, 1] = size
        return self.decode_prepared(self.preprocess(images), size, sizes)

    def decode_prepared(self, images: Tensor, size: Sequence[int], sizes: Tensor) -> Decoded:
        """Predict from preprocessed samples.

        Args:
            images: The network's input; of images float (N, C, h, w).
            size: Height and width to which ``Task.full_resolution_outputs`` are resized.
            sizes: int64 (N, 2), original height and width of each image in pixels.

        Returns:
            As ``forward``.
        """
        height, width = size
        if not self.extra_outputs:
            return self.task.decode(restored(self, images, height, width), sizes)
        with first_features(self.backbone) as features:
            outputs = restored(self, images, height, width)
        return add_extra_outputs(self, self.task.decode(outputs, sizes), features, outputs)

    def comparison(self, reference: Arrays, candidate: Arrays) -> Disagreement:
        """Compare two sets of results of the same batch, extra outputs included."""
        compare = comparing_extras(self.task.export_support().compare, self.extra_outputs)
        return compare(reference, candidate)

    def inputs(self, raw: Tensor) -> dict[str, Tensor]:
        """Return the inputs by name, in order, for a raw batch."""
        return {self.preprocess.inputs.name: raw}

    def further_axes(self) -> tuple[Any, ...]:
        """Return the axes of any size of the inputs after the first, as ``Inputs.axes`` does."""
        return ()


def restored(network: Network | InferenceGraph, images: Tensor, height: int, width: int) -> Any:
    """Compute outputs, those in ``Task.full_resolution_outputs`` at the size of the images.

    Args:
        network: The network.
        images: float (N, C, h, w), preprocessed.
        height: Original height of all images in pixels.
        width: Original width of all images in pixels.

    Returns:
        What ``Task.inference_step`` returned, the named outputs as (N, C, height, width).
    """
    outputs = network.task.inference_step(network, images)
    maps = {
        name: network.preprocess.restore(outputs[name], height, width)
        for name in network.task.full_resolution_outputs
    }
    return {**outputs, **maps} if maps else outputs
