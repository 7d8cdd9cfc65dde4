"""Which outputs of the frozen stages to cache: found by trial runs, without knowing the task.

Autograd determines which module calls depend on nothing trainable. Which of their values the rest of the
network reads is found by replacing them with NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from visiongraft.backbone import Backbone
from visiongraft.caching.images import ImagesRead
from visiongraft.caching.units import (
    Unit,
    Value,
    cached_images,
    recording,
    replaced,
    stored_values,
)
from visiongraft.data.batch import Batch, StepInfo
from visiongraft.errors import one_line
from visiongraft.loss_parts import read_parts
from visiongraft.network import Network
from visiongraft.optimizers import name_parts, task_optimizers
from visiongraft.seeds import preserved, seed_everything

DTYPES = {"float32": np.float32, "float16": np.float16}  # that floats are stored in
PROBE_BATCH = 3
READS_IMAGES = "the task reads the images themselves"


@dataclass(frozen=True)
class ReplayPlan:
    """What a phase would store.

    Attributes:
        units: The frozen module calls, in order.
        bytes_per_image: Size of what is stored for one image.
        input_bytes: Size of one network input, for comparison.
        reason: Why nothing can be replayed, or empty.
    """

    units: tuple[Unit, ...] = ()
    bytes_per_image: int = 0
    input_bytes: int = 0
    reason: str = ""


def plan_replay(network: Network, batch: Batch, dtype: str = "float32") -> ReplayPlan:
    """Find out what a prepared network's frozen prefix is, and what of it must be stored.

    Args:
        network: A network that ``freezing.apply_phase`` has prepared; it is left as it was.
        batch: A few training samples, at least 3, on the network's device.
        dtype: Type to store, ``"float32"`` or ``"float16"``.

    Returns:
        The plan; its ``reason`` tells why nothing can be replayed.
    """
    backbone = network.backbone
    training = network.training
    # In the layout of training batches: what is drawn at random follows the order in memory.
    batch = batch.to(batch.images.device)
    if network.one_size:  # images of any sizes are compared at the network's own
        sizes = batch.sizes.new_tensor([network.preprocess.config.size] * len(batch.images))
        batch = replace(batch, sizes=sizes)
    with preserved():
        try:
            network.train()
            with _kept(network):
                units = _frozen_units(backbone, batch.images)
            if not units:
                return ReplayPlan(reason="no stage is frozen from the input on")
            _mark_needed(network, batch, units)
            problem = _disagreement(network, batch, units)
        except ImagesRead as error:
            problem = f"{READS_IMAGES} ({error.operation})"
        finally:
            network.train(training)
    if problem:
        return ReplayPlan(reason=problem)
    size = np.dtype(DTYPES[dtype]).itemsize
    stored = sum(
        prod(v.shape) * (size if v.dtype.is_floating_point else v.dtype.itemsize)
        for v in stored_values(units)
    )
    return ReplayPlan(tuple(units), stored, batch.images[0].numel() * 4)


@dataclass
class _Call:
    name: str
    call: int
    module: nn.Module
    inner: list[_Call] = field(default_factory=list)
    output: Any = None
    frozen: bool = False


def _frozen_units(backbone: Backbone, images: Tensor) -> list[Unit]:
    """Run the backbone once and keep the largest module calls that depend on nothing trainable.

    Autograd itself is the judge: what depends on a trainable parameter requires a gradient. Calls around
    modules that the backbone observes are left out, since these would not be called.
    """
    calls = _trace_calls(backbone, images)
    # One fewer, so that constants are told from values of images that happen to be equal.
    fewer = images[1:] * 0.5
    others = _trace_calls(backbone, fewer)

    def largest(call: _Call) -> Iterator[Unit]:
        around = call.name and any(name.startswith(f"{call.name}.") for name in backbone.observed)
        twin = others.get((call.name, call.call))
        unit = None if around else _as_unit(call, twin, images, fewer)
        if unit is not None:
            yield unit
            return
        for inner in call.inner:
            yield from largest(inner)

    return list(largest(calls["", 0]))


def _trace_calls(backbone: nn.Module, images: Tensor) -> dict[tuple[str, int], _Call]:
    """Run the backbone once, and return the calls of its modules by name and number."""
    counts: dict[str, int] = {}
    stack: list[_Call] = []
    calls: dict[tuple[str, int], _Call] = {}

    def before(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            call = _Call(name, counts.get(name, 0), module)
            counts[name] = call.call + 1
            call.frozen = not _requires_grad((args, kwargs))
            if stack:
                stack[-1].inner.append(call)
            stack.append(call)
            calls[name, call.call] = call

        return hook

    def after(module: nn.Module, args: Any, output: Any) -> None:
        call = stack.pop()
        call.output = output
        call.frozen = call.frozen and not _requires_grad(output)

    with ExitStack() as hooks, torch.enable_grad():
        for name, module in backbone.named_modules():
            hooks.callback(module.register_forward_pre_hook(before(name), with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(after).remove)
        backbone(images)
    return calls


def _as_unit(call: _Call, other: _Call | None, images: Tensor, fewer: Tensor) -> Unit | None:
    """Make a unit of a call, or ``None`` if its output cannot be replayed row by row.

    Args:
        call: The call for some images.
        other: The same call for fewer other images, if there was one.
        images: The images.
        fewer: The others.
    """
    if not call.frozen or any(m.training for m in call.module.modules()):
        return None
    leaves, structure = pytree.tree_flatten(call.output)
    twins = pytree.tree_leaves(other.output) if other is not None else []
    if len(leaves) != len(twins) or not leaves:
        return None
    values = []
    frames = images.shape[1] if images.ndim == 5 else None
    for leaf, twin in zip(leaves, twins, strict=True):
        if not isinstance(leaf, Tensor):
            return None
        rows = (leaf.shape[:1], twin.shape[:1])
        if leaf.shape == twin.shape and torch.equal(leaf, twin):
            values.append(Value(tuple(leaf.shape), leaf.dtype, constant=leaf.detach().clone()))
        elif rows == ((len(images),), (len(fewer),)):
            values.append(Value(tuple(leaf.shape[1:]), leaf.dtype))
        elif frames and rows == ((len(images) * frames,), (len(fewer) * frames,)):
            values.append(Value((frames, *leaf.shape[1:]), leaf.dtype, frames=frames))
        else:
            return None
    return Unit(call.name, call.call, structure, values)


def _requires_grad(tree: Any) -> bool:
    return any(isinstance(x, Tensor) and x.requires_grad for x in pytree.tree_leaves(tree))


def _mark_needed(network: Network, batch: Batch, units: list[Unit]) -> None:
    """Mark the values that the rest of the network reads: replaced by NaN, they change a result."""
    with recording(network.backbone, units, everything=True) as prefix, torch.no_grad():
        recorded = prefix(batch.images)
    values = [v for u in units for v in u.values if v.constant is None]
    for i, value in enumerate(values):
        poisoned = list(recorded)
        if value.dtype.is_floating_point:
            poisoned[i] = torch.full_like(recorded[i], float("nan"))
            cached = replace(batch, images=cached_images(units, poisoned, batch.images, every=True))
            value.needed = not _finite(network, cached, units)
        else:
            value.needed = True


def _disagreement(network: Network, batch: Batch, units: list[Unit]) -> str:
    """Compare replayed with computed results, everything unneeded being NaN."""
    values = [v for u in units for v in u.values if v.constant is None]
    with recording(network.backbone, units, everything=True) as prefix, torch.no_grad():
        recorded = prefix(batch.images)
        fewer = prefix(batch.images[1:])
    if any(_mixed(*v) for v in zip(recorded, fewer, strict=True)):
        return "what is frozen mixes the images of a batch"
    needed = [r for r, v in zip(recorded, values, strict=True) if v.needed]
    cached = replace(batch, images=cached_images(units, needed, batch.images))
    other = replace(batch, images=batch.images.roll(1, 0) * 0.5)
    for what, results in (("prediction", _decoded), ("training step", _losses)):
        try:
            expected = results(network, batch)
            results(network, other)  # what it leaves behind, in a hook say, must not answer below
            with replaced(network.backbone, units):
                got = results(network, cached)
        except ImagesRead:
            raise
        except Exception as error:  # a third-party task may raise any error
            return f"the {what} cannot be tried on {len(batch.images)} images: {one_line(error)}"
        for name, value in expected.items():
            a, b = value.double(), got[name].double()
            if not torch.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True):
                return f"replayed {name!r} of the {what} differs from computed"
    return ""


def _mixed(values: Tensor, fewer: Tensor) -> bool:
    """Check whether values of images change when the first image is left out of the batch."""
    values, fewer = values[1:].double(), fewer.double()
    # Wide, since kernels for another batch size round otherwise, on GPUs by a thousandth.
    return bool((values - fewer).abs().max() > 0.01 * values.abs().max())


def _finite(network: Network, batch: Batch, units: list[Unit]) -> bool:
    """Check whether losses and predictions of a cached batch contain no NaN."""
    try:
        with replaced(network.backbone, units):
            results = [*_losses(network, batch).values(), *_decoded(network, batch, True).values()]
    except ImagesRead:
        raise
    except Exception:  # a head may refuse NaN in any way it likes: then it reads the value
        return False
    return all(bool(torch.isfinite(t).all()) for t in results if t.is_floating_point())


def _decoded(network: Network, batch: Batch, training: bool = False) -> dict[str, Tensor]:
    network.train(training)
    with _kept(network), torch.no_grad():
        return network.decode(batch.images, batch.sizes)


def _losses(network: Network, batch: Batch) -> dict[str, Tensor]:
    """Run a training step, with the same random numbers each time."""
    network.train()
    devices = [batch.images.device] if batch.images.is_cuda else []
    with _kept(network), torch.random.fork_rng(devices), torch.enable_grad():
        seed_everything(0)
        specs = task_optimizers(network.task)
        found: dict[str, Tensor] = {}
        for spec in specs:
            parts = network(replace(batch, step=StepInfo(spec.name)))
            read = read_parts(parts, network.task.name)
            values = {name: part.value.detach() for name, part in read.items()}
            found |= name_parts(values, spec, len(specs))
        return found


@contextmanager
def _kept(network: Network) -> Iterator[None]:
    """Undo what trial runs change: buffers such as running statistics, head, loss, gradients."""
    learned = {
        f"{part}.{name}": parameter
        for part in ("head", "loss")
        for name, parameter in network.get_submodule(part).named_parameters()
    }
    tensors = {**dict(network.named_buffers()), **learned}
    copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    gradients = {parameter: parameter.grad for parameter in network.parameters()}
    try:
        yield
    finally:
        now = {**dict(network.named_buffers()), **learned}
        with torch.no_grad():
            for name, tensor in copies.items():
                now[name].copy_(tensor)
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
