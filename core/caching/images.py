"""Stand-ins for the images of a batch whose features are cached: only the backbone takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import resolve_name

from visiongraft.errors import ReplayError

Outputs = Mapping[tuple[str, int], Any]  # of a unit, by name of the module and number of the call

_PROPERTIES = "shape dtype device ndim layout requires_grad is_leaf grad_fn nbytes itemsize is_cuda"
_METHODS = (
    "size dim ndimension numel nelement element_size stride is_contiguous is_floating_point "
    "is_complex get_device new_zeros new_ones new_empty new_full new_tensor __len__ __hash__"
)
_FUNCTIONS = (
    "zeros_like ones_like empty_like full_like rand_like randn_like is_floating_point numel"
)
UNREAD = {  # what depends on shape, type and device only
    *(getattr(Tensor, name).__get__ for name in _PROPERTIES.split()),
    *(getattr(Tensor, name) for name in _METHODS.split()),
    *(getattr(torch, name) for name in _FUNCTIONS.split()),
}
UNCHANGED = {Tensor.contiguous, Tensor.detach, Tensor.clone, Tensor.float, Tensor.to}


class ImagesRead(ReplayError):
    """Something read the images of a batch whose features are cached.

    Attributes:
        operation: Name of the operation that was called with them.
    """

    def __init__(self, operation: str) -> None:
        self.operation = operation
        super().__init__(
            f"{operation} reads the images of a batch, which do not exist while the features of "
            "frozen stages are cached: only the backbone accepts them; pass replay=False "
            "(--replay off)"
        )


class CachedImages(Tensor):
    """Stands for the images of a batch and carries what frozen modules return for them.

    It has shape, type and device of the images and no content. Inside ``units.replaced`` the backbone
    accepts it. Every operation that would read its content is refused.

    Attributes:
        outputs: Output of each replaced module call.
    """

    outputs: Outputs

    @classmethod
    def of(cls, outputs: Outputs, shape: Sequence[int], device: torch.device) -> Self:
        """Create a stand-in.

        Args:
            outputs: Output of each replaced module call.
            shape: Shape of the images, (N, C, height, width).
            device: Device of the network.
        """
        stand_in = blank(shape, device).as_subclass(cls)
        stand_in.outputs = outputs
        return stand_in

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Answer what concerns shape, type and device, and refuse everything else."""
        if function in UNREAD:
            with torch._C.DisableTorchFunctionSubclass():
                return function(*args, **(kwargs or {}))
        if function in UNCHANGED and isinstance(args[0], cls):
            images = args[0]
            moved = function(blank((0, 0, 0, 0), images.device), *args[1:], **(kwargs or {}))
            if (moved.dtype, moved.device) == (images.dtype, images.device):
                return images
        raise ImagesRead(resolve_name(function) or getattr(function, "__name__", repr(function)))

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"CachedImages(shape={tuple(self.shape)})"


def blank(shape: Sequence[int], device: torch.device) -> Tensor:
    """Return a tensor of NaN that takes no memory: what reads it after all does not go unnoticed."""
    return torch.full((1,) * len(shape), float("nan"), device=device).expand(*shape)
