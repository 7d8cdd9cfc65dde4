"""Replay: what a frozen prefix computes is computed once, stored, and played back.

While stages are frozen and the pictures that enter them repeat, the outputs of the frozen modules
repeat too. They are recorded in one pass and returned by those very modules afterwards, so that
only the trainable rest of the network does any work. Nothing here knows a task: which recorded
values the rest of the network reads is found out by putting NaN in their place.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from visiongraft.errors import ReplayError
from visiongraft.folding import folded_copy
from visiongraft.network import Batch, Network
from visiongraft.seeds import preserved

DTYPES = {"float32": np.float32, "float16": np.float16}
PROBE_BATCH = 3


@dataclass
class Value:
    """One tensor that a frozen module returns.

    Attributes:
        shape: Its shape without the batch dimension; the whole shape if ``constant``.
        dtype: Its type in the network.
        constant: The tensor itself if it does not depend on the pictures.
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


@dataclass(frozen=True)
class ReplayPlan:
    """What a phase would store.

    Attributes:
        units: The frozen module calls, in order.
        bytes_per_picture: Size of what is stored for one picture.
        input_bytes: Size of one network input, for comparison.
        reason: Why nothing can be replayed, or empty.
    """

    units: tuple[Unit, ...] = ()
    bytes_per_picture: int = 0
    input_bytes: int = 0
    reason: str = ""


def plan_replay(network: Network, batch: Batch, dtype: str = "float32") -> ReplayPlan:
    """Find out what a prepared network's frozen prefix is, and what of it must be stored.

    Args:
        network: A network that ``freezing.apply_phase`` has prepared; it is left as it was.
        batch: A few training samples, at least 3, on the network's device.
        dtype: Type to store, ``"float32"`` or ``"float16"``.

    Returns:
        The plan; its ``reason`` says so if nothing can be replayed.
    """
    backbone = network.backbone
    training = network.training
    if network.one_size:  # pictures of any sizes are compared at the network's own
        sizes = batch.sizes.new_tensor([network.preprocess.config.size] * len(batch.images))
        batch = replace(batch, sizes=sizes)
    with preserved():
        try:
            network.train()
            with _buffers_kept(network):
                units = _frozen_units(backbone, batch.images)
            if not units:
                return ReplayPlan(reason="no stage is frozen from the input on")
            _mark_needed(network, batch, units)
            problem = _disagreement(network, batch, units)
        finally:
            network.train(training)
    if problem:
        return ReplayPlan(reason=problem)
    size = np.dtype(DTYPES[dtype]).itemsize
    stored = sum(
        prod(v.shape) * (size if v.dtype.is_floating_point else v.dtype.itemsize)
        for v in _stored(units)
    )
    return ReplayPlan(tuple(units), stored, batch.images[0].numel() * 4)


@dataclass
class Store:
    """Recorded values of one sample set, memory-mapped on disk.

    Attributes:
        arrays: One array (rows, *shape) per stored value, in plan order.
        targets: Target of each row, as the loader gave it.
        sizes: Original height and width of each row.
    """

    arrays: list[NDArray[Any]]
    targets: list[Any]
    sizes: NDArray[np.int64]


@dataclass
class Replay:
    """Records and plays back for one phase; use it as a context manager.

    Inside the context the frozen modules return recorded values. ``load`` sets which rows.

    Attributes:
        network: The prepared network.
        plan: From ``plan_replay``, with units.
        folder: Where the store goes; a temporary folder in it is removed at the end.
        dtype: Type to store.
    """

    network: Network
    plan: ReplayPlan
    folder: Path
    dtype: str = "float32"
    _current: dict[tuple[str, int], Any] = field(default_factory=dict)
    _scratch: Path | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._scratch = Path(tempfile.mkdtemp(prefix="replay-", dir=self.folder))
        return self

    def __exit__(self, *_: object) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def record(self, name: str, rows: int, batches: Iterator[Batch]) -> Store:
        """Run the frozen prefix over a sample set once, in order.

        Args:
            name: Name of the set, for the files.
            rows: Samples in it.
            batches: All of them, in row order, on the CPU, each with a list of targets.

        Returns:
            The store.

        Raises:
            ReplayError: The disk is full.
        """
        assert self._scratch is not None
        stored = list(_stored(self.plan.units))
        try:
            arrays = [
                np.lib.format.open_memmap(
                    self._scratch / f"{name}-{i}.npy", "w+", self._stored_dtype(v), (rows, *v.shape)
                )
                for i, v in enumerate(stored)
            ]
        except OSError as error:
            raise ReplayError(
                f"cannot store replay in {self.folder}: {error}; say replay=False"
            ) from error
        store = Store(list(arrays), [], np.zeros((rows, 2), dtype=np.int64))
        row = 0
        with ExitStack() as stack:
            prefix = None
            for batch in batches:
                if prefix is None:
                    prefix = stack.enter_context(self._recorder(batch.images))
                values = prefix(batch.images)
                end = row + len(batch.images)
                for array, value in zip(store.arrays, values, strict=True):
                    array[row:end] = value.to("cpu").numpy()
                store.sizes[row:end] = batch.sizes.numpy()
                store.targets += batch.targets
                row = end
        return store

    @contextmanager
    def _recorder(self, images: Tensor) -> Iterator[Callable[[Tensor], list[Tensor]]]:
        """Give the fastest function from images to stored values that is right on these images."""
        backbone, units = self.network.backbone, self.plan.units
        device = next(backbone.parameters()).device
        with ExitStack() as stack, torch.no_grad():
            folded = folded_copy(backbone, images.to(device))
            fast = stack.enter_context(_prefix(folded, units))
            exact = stack.enter_context(_prefix(backbone, units))
            pairs = zip(exact(images), fast(images), strict=True)
            yield fast if all(torch.allclose(a, b, 1e-3, 1e-4) for a, b in pairs) else exact

    @contextmanager
    def playing(self) -> Iterator[None]:
        """Let the frozen modules return what ``load`` has set."""
        with _replaced(self.network.backbone, self.plan.units, self._current):
            yield

    def load(self, store: Store, rows: Sequence[int], device: torch.device) -> Tensor:
        """Set what the frozen modules return in the next forward pass.

        Args:
            store: From ``record``.
            rows: Which rows make up the batch.
            device: Where to put them.

        Returns:
            A stand-in for the batch's images, of the right shape and without content.
        """
        index = np.asarray(rows)
        stored = [
            torch.from_numpy(array[index]).to(device=device, dtype=value.dtype)
            for array, value in zip(store.arrays, _stored(self.plan.units), strict=True)
        ]
        _set_current(self._current, self.plan.units, iter(stored), len(index), device)
        config = self.network.preprocess.config
        shape = (len(index), len(config.mean), *config.size)
        return torch.zeros((1, 1, 1, 1), device=device).expand(shape)

    def _stored_dtype(self, value: Value) -> Any:
        if value.dtype.is_floating_point:
            return DTYPES[self.dtype]
        return torch.empty(0, dtype=value.dtype).numpy().dtype


def _stored(units: Sequence[Unit]) -> Iterator[Value]:
    for unit in units:
        for value in unit.values:
            if value.needed and value.constant is None:
                yield value


# ---- finding the frozen prefix ----


@dataclass
class _Call:
    name: str
    call: int
    module: nn.Module
    inner: list[_Call] = field(default_factory=list)
    output: Any = None
    frozen: bool = False


def _frozen_units(backbone: nn.Module, images: Tensor) -> list[Unit]:
    """Run the backbone once and keep the largest module calls that depend on nothing trainable.

    Autograd itself is the judge: what depends on a trainable parameter requires a gradient.
    """
    root = _trace_calls(backbone, images)
    other = {(c.name, c.call): c for c in _walk(_trace_calls(backbone, images.roll(1, 0) * 0.5))}
    units: list[Unit] = []

    def visit(call: _Call) -> None:
        unit = _as_unit(call, other.get((call.name, call.call)), len(images))
        if unit is not None:
            units.append(unit)
            return
        for inner in call.inner:
            visit(inner)

    visit(root)
    return units


def _trace_calls(backbone: nn.Module, images: Tensor) -> _Call:
    counts: dict[str, int] = {}
    stack: list[_Call] = []
    top: list[_Call] = []

    def before(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            call = _Call(name, counts.get(name, 0), module)
            counts[name] = call.call + 1
            call.frozen = not _requires_grad((args, kwargs))
            (stack[-1].inner if stack else top).append(call)
            stack.append(call)

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
    return top[0]


def _walk(call: _Call) -> Iterator[_Call]:
    yield call
    for inner in call.inner:
        yield from _walk(inner)


def _as_unit(call: _Call, other: _Call | None, pictures: int) -> Unit | None:
    """Make a unit of a call, or ``None`` if its output cannot be replayed row by row."""
    if not call.frozen or any(m.training for m in call.module.modules()):
        return None
    leaves, structure = pytree.tree_flatten(call.output)
    twins = pytree.tree_leaves(other.output) if other is not None else []
    if len(leaves) != len(twins) or not leaves:
        return None
    values = []
    for leaf, twin in zip(leaves, twins, strict=True):
        if not isinstance(leaf, Tensor):
            return None
        if leaf.shape == twin.shape and torch.equal(leaf, twin):
            values.append(Value(tuple(leaf.shape), leaf.dtype, constant=leaf.detach().clone()))
        elif leaf.ndim and leaf.shape[0] == pictures:
            values.append(Value(tuple(leaf.shape[1:]), leaf.dtype))
        else:
            return None
    return Unit(call.name, call.call, structure, values)


def _requires_grad(tree: Any) -> bool:
    return any(isinstance(x, Tensor) and x.requires_grad for x in pytree.tree_leaves(tree))


def _mark_needed(network: Network, batch: Batch, units: list[Unit]) -> None:
    """Mark the values that the rest of the network reads: NaN in their place reaches a result."""
    with _prefix(network.backbone, units, everything=True) as prefix, torch.no_grad():
        recorded = prefix(batch.images)
    values = [v for u in units for v in u.values if v.constant is None]
    for i, value in enumerate(values):
        poisoned = list(recorded)
        if value.dtype.is_floating_point:
            poisoned[i] = torch.full_like(recorded[i], float("nan"))
            value.needed = not _finite(lambda p=poisoned: _results(network, batch, units, p))  # type: ignore[misc]
        else:
            value.needed = True


def _disagreement(network: Network, batch: Batch, units: list[Unit]) -> str:
    """Compare replayed with computed results, everything unneeded being NaN."""
    values = [v for u in units for v in u.values if v.constant is None]
    network.eval()
    with _prefix(network.backbone, units, everything=True) as prefix, torch.no_grad():
        recorded = prefix(batch.images)
        fewer = prefix(batch.images[1:])
        expected = network.decode(batch.images, batch.sizes)
    if any(_mixed(*v) for v in zip(recorded, fewer, strict=True)):
        return "what is frozen mixes the pictures of a batch"
    kept = [
        r if v.needed else torch.full_like(r, float("nan"))
        for r, v in zip(recorded, values, strict=True)
    ]
    current: dict[tuple[str, int], Any] = {}
    _set_current(current, units, iter(kept), len(batch.images), batch.images.device, every=True)
    with _replaced(network.backbone, units, current), torch.no_grad():
        got = network.decode(torch.zeros_like(batch.images), batch.sizes)
    for name, value in expected.items():
        if not torch.allclose(value.double(), got[name].double(), rtol=1e-3, atol=1e-5):
            return f"replayed {name!r} differs from computed"
    return ""


def _mixed(values: Tensor, fewer: Tensor) -> bool:
    """Say whether values of pictures change when the first picture is left out of the batch."""
    values, fewer = values[1:].double(), fewer.double()
    # Wide, since kernels for another batch size round otherwise, on GPUs by a thousandth.
    return bool((values - fewer).abs().max() > 0.01 * values.abs().max())


def _results(network: Network, batch: Batch, units: list[Unit], values: list[Tensor]) -> list[Any]:
    current: dict[tuple[str, int], Any] = {}
    _set_current(current, units, iter(values), len(batch.images), batch.images.device, every=True)
    with _replaced(network.backbone, units, current), _buffers_kept(network), torch.no_grad():
        losses = network(batch)
        decoded = network.decode(batch.images, batch.sizes)
    return [*losses.values(), *decoded.values()]


def _finite(compute: Callable[[], list[Tensor]]) -> bool:
    try:
        return all(bool(torch.isfinite(t).all()) for t in compute() if t.is_floating_point())
    except Exception:  # a head may refuse NaN in any way it likes: then it reads the value
        return False


@contextmanager
def _buffers_kept(network: nn.Module) -> Iterator[None]:
    """Undo what trial runs write to buffers, such as running statistics."""
    kept = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        yield
    finally:
        for name, buffer in network.named_buffers():
            buffer.copy_(kept[name])


# ---- recording and playing ----


class _PrefixDone(Exception):
    """Ends a forward pass once the last value to record is there."""


@contextmanager
def _prefix(
    model: nn.Module, units: Sequence[Unit], everything: bool = False
) -> Iterator[Callable[[Tensor], list[Tensor]]]:
    """Give a function from images to the values that are to be recorded, in plan order.

    It runs the backbone, or a copy of it, in evaluation mode and stops as soon as all values are
    there.
    """
    wanted = {
        (u.name, u.call): [v.constant is None and (v.needed or everything) for v in u.values]
        for u in units
    }
    wanted = {key: mask for key, mask in wanted.items() if any(mask)}
    found: dict[tuple[str, int], list[Tensor]] = {}
    counts: dict[str, int] = {}

    def hook(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            key = (name, counts.get(name, 0))
            counts[name] = key[1] + 1
            if key in wanted:
                leaves = pytree.tree_leaves(output)
                # Cloned, because a later in-place operation may write to the module's output.
                found[key] = [x.clone() for x, w in zip(leaves, wanted[key], strict=True) if w]
                if len(found) == len(wanted):
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
def _replaced(
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


def _set_current(
    current: dict[tuple[str, int], Any],
    units: Sequence[Unit],
    stored: Iterator[Tensor],
    pictures: int,
    device: torch.device,
    every: bool = False,
) -> None:
    """Put each unit's output together from stored, constant and meaningless (NaN) tensors."""
    for unit in units:
        leaves = []
        for value in unit.values:
            if value.constant is not None:
                leaves.append(value.constant)
            elif value.needed or every:
                leaves.append(next(stored))
            else:
                fill = float("nan") if value.dtype.is_floating_point else 0
                empty = torch.full((1,) * (len(value.shape) + 1), fill, dtype=value.dtype)
                leaves.append(empty.to(device).expand(pictures, *value.shape))
        current[unit.name, unit.call] = pytree.tree_unflatten(leaves, unit.structure)
