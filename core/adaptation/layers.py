"""Layers with an adapter: the layer gets a submodule and a class that asks it, and loses both again.

Neither the layer nor any of its tensors is replaced, so that names, stages and references stay. In
place of hooks the layer's class changes: hooks would run a second time when the feature cache replays
an output, and what folds batch norms into convolutions would not notice them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from visiongraft.errors import OptionError, TrainingError

if TYPE_CHECKING:
    from visiongraft.adapters import LayerAdapter

_CLASSES: dict[
    tuple[Any, str | None], Any
] = {}  # made once each, so that layers of a kind share one


class Adapted:
    """Marks a layer that has an adapter.

    Attributes:
        plain_class: The layer's own class.
        adapted_parameter: The parameter whose value the adapter computes; ``None`` if the adapter
            computes the output.
        adapter_name: Name of the adapter, and of the layer's submodule.
    """

    plain_class: type[nn.Module]
    adapted_parameter: str | None
    adapter_name: str

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle and copy by the layer's own class, since this one is made at run time."""
        return _restored, (self.plain_class, self.adapted_parameter), self.__dict__


def attach(
    layer: nn.Module, name: str, adapter: LayerAdapter, parameter: str | None = None
) -> None:
    """Put an adapter into a layer.

    Args:
        layer: The layer; changed in place.
        name: Name of the adapter.
        adapter: What to add.
        parameter: The parameter whose value the adapter computes; ``None`` if it computes the output.

    Raises:
        OptionError: The layer has an adapter already, or something of that name.
    """
    if isinstance(layer, Adapted):
        raise OptionError(f"it has adapter {layer.adapter_name!r} already")
    if hasattr(layer, name):
        raise OptionError(f"it has an attribute {name!r} of its own")
    layer.add_module(name, adapter)
    vars(layer)["adapter_name"] = name
    layer.__class__ = adapted_class(type(layer), parameter)


def fold(layer: nn.Module) -> None:
    """Change a layer's tensors to what its adapter makes of them, and remove the adapter.

    Args:
        layer: A layer with an adapter; changed in place.

    Raises:
        TrainingError: The merged values are not finite.
    """
    assert isinstance(layer, Adapted)
    with torch.no_grad():
        adapter_of(layer).fold(layer, layer.adapted_parameter)
    for name, parameter in layer.named_parameters(recurse=False):
        if not parameter.isfinite().all():
            raise TrainingError(
                f"merging adapter {layer.adapter_name!r} makes {name!r} of a layer not finite; "
                "lower the learning rate"
            )
    detach(layer)


def detach(layer: Any) -> None:
    """Remove a layer's adapter and leave its tensors as they are."""
    delattr(layer, layer.adapter_name)
    del vars(layer)["adapter_name"]
    layer.__class__ = layer.plain_class


def adapter_of(layer: Any) -> LayerAdapter:
    """Return the adapter of a layer that has one."""
    found: LayerAdapter = layer._modules[layer.adapter_name]
    return found


def adapted_class(plain: Any, parameter: str | None) -> Any:
    """Return the class of layers with an adapter, a subclass of the layer's own.

    Args:
        plain: The layer's own class.
        parameter: See ``attach``.
    """
    key = (plain, parameter)
    if key not in _CLASSES:
        members: dict[str, Any] = {"plain_class": plain, "adapted_parameter": parameter}
        members |= {"__module__": plain.__module__, "__doc__": plain.__doc__}
        if parameter is None:
            members["forward"] = _forward
        else:
            members[parameter] = property(partial(_value, parameter))
        if issubclass(plain, nn.Sequential):  # which runs all of its submodules one after the other
            members["__iter__"] = _own_children
        _CLASSES[key] = type(f"Adapted{plain.__name__}", (Adapted, plain), members)
    return _CLASSES[key]


def _forward(self: Any, *args: Any, **kwargs: Any) -> Any:
    plain: Callable[..., Any] = partial(self.plain_class.forward, self)
    return self._modules[self.adapter_name](self, plain, *args, **kwargs)


def _own_children(self: Any) -> Iterator[nn.Module]:
    return (module for name, module in self._modules.items() if name != self.adapter_name)


def _value(parameter: str, layer: Any) -> Tensor:
    value: Tensor = layer._modules[layer.adapter_name].effective(layer._parameters[parameter])
    return value


def _restored(plain: type[nn.Module], parameter: str | None) -> nn.Module:
    kind = adapted_class(plain, parameter)
    made: nn.Module = kind.__new__(kind)
    return made
