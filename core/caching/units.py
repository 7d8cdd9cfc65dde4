"""Calls of frozen modules: how their values are taken out of a forward pass, and put back.

The replay of frozen stages is made of these; see ``replay``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


@dataclass
class Value:
    """One tensor that a frozen module returns.

    Attributes:
        shape: Its shape without the batch dimension; the whole shape if ``constant``.
        dtype: Its type in the network.
        constant: The tensor itself if it does not depend on the images.
        needed: Whether anything but a replayed module reads it.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    constant: Tensor | None = None
    needed: bool = False


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
    masks = {
        (u.name, u.call): [v.constant is None and (v.needed or everything) for v in u.values]
        for u in units
    }
    masks = {key: mask for key, mask in masks.items() if any(mask)}
    found: dict[tuple[str, int], list[Tensor]] = {}
    counts: dict[str, int] = {}

    def hook(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            key = (name, counts.get(name, 0))
            counts[name] = key[1] + 1
            if key in masks:
                leaves = pytree.tree_leaves(output)
                # Cloned, because a later in-place operation may write to the module's output.
                found[key] = [x.clone() for x, w in zip(leaves, masks[key], strict=True) if w]
                if len(found) == len(masks):
                    raise _PrefixDone

        return keep

    def run(images: Tensor) -> list[Tensor]:
        found.clear()
        counts.clear()
        device = next(model.parameters()).device
        try:
            model(images.to(device).contiguous(memory_format=torch.channels_last))
        except _PrefixDone:
            pass
        return [value for key in masks for value in found[key]]

    modules = dict(model.named_modules())
    was_training = [m for m in model.modules() if m.training]
    model.train(False)
    with ExitStack() as hooks:
        for name in {key[0] for key in masks}:
            hooks.callback(modules[name].register_forward_hook(hook(name)).remove)
        try:
            yield run
        finally:
            for module in was_training:
                module.training = True


@contextmanager
def replaced(
    backbone: nn.Module, units: Sequence[Unit], current: dict[tuple[str, int], Any]
) -> Iterator[None]:
    """Make the units' modules return ``current`` instead of computing."""
    modules = dict(backbone.named_modules())
    calls: dict[str, int] = {}
    for unit in units:
        calls[unit.name] = max(calls.get(unit.name, 0), unit.call + 1)

    def player(name: str, total: int) -> Callable[..., Any]:
        turn = 0

        def forward(*_args: Any, **_kwargs: Any) -> Any:
            nonlocal turn
            key = (name, turn % total)
            turn += 1
            return current[key]

        return forward

    try:
        for name, total in calls.items():
            modules[name].forward = player(name, total)
        yield
    finally:
        for name in calls:
            modules[name].__dict__.pop("forward", None)


def assembled(
    units: Sequence[Unit],
    stored: Iterable[Tensor],
    images: int,
    device: torch.device,
    every: bool = False,
) -> dict[tuple[str, int], Any]:
    """Assemble each unit's output from stored, constant and meaningless (NaN) tensors."""
    outputs, tensors = {}, iter(stored)
    for unit in units:
        leaves = []
        for value in unit.values:
            if value.constant is not None:
                leaves.append(value.constant)
            elif value.needed or every:
                leaves.append(next(tensors))
            else:
                fill = float("nan") if value.dtype.is_floating_point else 0
                empty = torch.full((1,) * (len(value.shape) + 1), fill, dtype=value.dtype)
                leaves.append(empty.to(device).expand(images, *value.shape))
        outputs[unit.name, unit.call] = pytree.tree_unflatten(leaves, unit.structure)
    return outputs
