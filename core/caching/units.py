"""Calls of frozen modules: how their values are taken out of a forward pass, and put back.

The replay of frozen stages is made of these; see ``replay``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from visiongraft.caching.images import CachedImages, Outputs, blank
from visiongraft.data.batch import channels_last


@dataclass
class Value:
    """One tensor that a frozen module returns.

    Attributes:
        shape: Its shape of one sample, without the batch dimension; the whole shape if ``constant``.
        dtype: Its type in the network.
        constant: The tensor itself if it does not depend on the images.
        needed: Whether anything but a replayed module reads it.
        frames: Number of frames of a clip, if the module runs on all frames of the batch at once;
            they are the first axis of ``shape`` then.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    constant: Tensor | None = None
    needed: bool = False
    frames: int | None = None

    def by_sample(self, output: Tensor) -> Tensor:
        """Return what the module returned with the samples as first axis."""
        return output if self.frames is None else output.unflatten(0, (-1, self.frames))

    def as_returned(self, values: Tensor) -> Tensor:
        """Return the values of samples as the module returns them."""
        return values if self.frames is None else values.flatten(0, 1)


@dataclass
class Unit:
    """One call of a frozen module whose inputs depend on nothing trainable.

    Attributes:
        name: Name of the module in the backbone; empty for the backbone itself.
        call: Which call of that module it is within one forward pass, from 0.
        structure: How its tensors make up what it returns.
        values: Those tensors.
    """

    name: str
    call: int
    structure: pytree.TreeSpec
    values: list[Value]


def stored_values(units: Sequence[Unit]) -> Iterator[Value]:
    """Return the values that are stored, in storage order."""
    for unit in units:
        for value in unit.values:
            if value.needed and value.constant is None:
                yield value


class _PrefixDone(Exception):
    """Ends a forward pass once the last value to record is there."""


@contextmanager
def recording(
    model: nn.Module, units: Sequence[Unit], everything: bool = False
) -> Iterator[Callable[[Tensor], list[Tensor]]]:
    """Yield a function from images to the values to record, in plan order.

    It runs the backbone, or a copy of it, in evaluation mode and stops as soon as all values are
    there.
    """
    wanted = {
        (u.name, u.call): [
            v if v.constant is None and (v.needed or everything) else None for v in u.values
        ]
        for u in units
    }
    wanted = {key: values for key, values in wanted.items() if any(values)}
    found: dict[tuple[str, int], list[Tensor]] = {}
    counts: dict[str, int] = {}

    def hook(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            key = (name, counts.get(name, 0))
            counts[name] = key[1] + 1
            if key in wanted:
                pairs = zip(pytree.tree_leaves(output), wanted[key], strict=True)
                # Cloned, because a later in-place operation may write to the module's output.
                found[key] = [value.by_sample(x.clone()) for x, value in pairs if value]
                if len(found) == len(wanted):
                    raise _PrefixDone

        return keep

    def run(images: Tensor) -> list[Tensor]:
        found.clear()
        counts.clear()
        device = next(model.parameters()).device
        try:
            model(channels_last(images.to(device)))
        except _PrefixDone:
            pass
        return [value for key in wanted for value in found[key]]

    modules = dict(model.named_modules())
    was_training = [m for m in model.modules() if m.training]
    model.train(False)
    with ExitStack() as hooks:
        for name in {key[0] for key in wanted}:
            hooks.callback(modules[name].register_forward_hook(hook(name)).remove)
        try:
            yield run
        finally:
            for module in was_training:
                module.training = True


@contextmanager
def replaced(backbone: nn.Module, units: Sequence[Unit]) -> Iterator[None]:
    """Let a backbone accept ``CachedImages``: the units' modules then return what these carry.

    Other images pass through the backbone as ever.
    """
    modules = dict(backbone.named_modules())
    names = list(dict.fromkeys(unit.name for unit in units))
    compute = backbone.forward

    def forward(images: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(images, CachedImages):
            return compute(images, *args, **kwargs)
        if "" in names:
            return images.outputs["", 0]
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(forward_replaced(modules[name], _player(name, images.outputs)))
            return compute(blank(images.shape, images.device), *args, **kwargs)

    with forward_replaced(backbone, forward):
        yield


@contextmanager
def forward_replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Replace the forward method of a module for the length of a block."""
    own = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def _player(name: str, outputs: Outputs) -> Callable[..., Any]:
    """Return a forward method that returns the outputs of a module's calls one after another."""
    turns = count()
    return lambda *_args, **_kwargs: outputs[name, next(turns)]


def cached_images(
    units: Sequence[Unit], stored: Iterable[Tensor], images: Tensor, every: bool = False
) -> CachedImages:
    """Create the stand-in for some images.

    Args:
        units: Calls of frozen modules.
        stored: The values of these images, each (N, *shape), in the order of ``stored_values``.
        images: Any tensor of the shape of the images, on the network's device.
        every: Whether ``stored`` contains the values that are not needed, too.

    Returns:
        The stand-in. What is neither stored nor constant is NaN in it.
    """
    values = iter(stored)
    outputs = {}
    for unit in units:
        leaves = []
        for value in unit.values:
            if value.constant is not None:
                leaves.append(value.constant)
            elif value.needed or every:
                leaves.append(value.as_returned(next(values)))
            else:
                fill = float("nan") if value.dtype.is_floating_point else 0
                empty = torch.full((1,) * (len(value.shape) + 1), fill, dtype=value.dtype)
                spread = empty.to(images.device).expand(len(images), *value.shape)
                leaves.append(value.as_returned(spread))
        outputs[unit.name, unit.call] = pytree.tree_unflatten(leaves, unit.structure)
    return CachedImages.of(outputs, images.shape, images.device)
