"""Gradient checkpointing: the backward pass recomputes what the forward pass does not keep.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, https://arxiv.org/abs/1604.06174.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint

from visiongraft.backbone import Backbone
from visiongraft.caching.units import forward_replaced
from visiongraft.errors import BackboneError, TrainingError


def checkpointed_modules(backbone: Backbone) -> tuple[nn.Module, ...]:
    """Return the modules of a backbone whose activations can be recomputed.

    Raises:
        BackboneError: It has none.
    """
    modules = tuple(backbone.checkpointed_modules())
    if not modules:
        raise BackboneError(
            f"backbone {backbone.info.name!r} does not support gradient checkpointing; leave out "
            "gradient_checkpointing=True (--gradient-checkpointing)"
        )
    return modules


@contextmanager
def recomputing(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Let modules keep only their inputs in forward passes within a block.

    Outputs and gradients, random numbers and running statistics are those of the modules themselves.
    What does not need gradients runs as ever.

    Args:
        modules: Modules of a network, none inside of another one.
    """
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(forward_replaced(module, _recomputed(module)))
        yield


def _recomputed(module: nn.Module) -> Callable[..., Any]:
    compute = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not _is_trained(module, (args, kwargs)) or _holds_replaced(module):
            return compute(*args, **kwargs)
        # The caller may go on filling a list that it passed, as densely connected networks do.
        args, kwargs = pytree.tree_map(lambda leaf: leaf, (args, kwargs))
        versions = _versions((args, kwargs))

        def check() -> None:
            if _versions((args, kwargs)) != versions:
                raise TrainingError(
                    f"an input of {type(module).__name__} is changed in place, so that its activations "
                    "cannot be recomputed; leave out gradient_checkpointing=True"
                )

        def run(*args: Any, **kwargs: Any) -> Any:
            check()
            return compute(*args, **kwargs)

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), _buffers_kept(module)

        outputs = checkpoint(run, *args, use_reentrant=False, context_fn=contexts, **kwargs)
        check()
        return outputs

    return forward


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Undo what a second forward pass changes, such as running statistics."""
    changing = [b for m in module.modules() if m.training for b in m.buffers(recurse=False)]
    copies = [buffer.clone() for buffer in changing]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, copy in zip(changing, copies, strict=True):
                buffer.copy_(copy)


def _is_trained(module: nn.Module, inputs: Any) -> bool:
    tensors = [*_tensors(inputs), *module.parameters()]
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _holds_replaced(module: nn.Module) -> bool:
    """Check whether a part of a module returns cached features, which it does only once."""
    return any("forward" in vars(part) for part in module.modules() if part is not module)


def _versions(inputs: Any) -> list[int]:
    return [tensor._version for tensor in _tensors(inputs)]


def _tensors(inputs: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)]
