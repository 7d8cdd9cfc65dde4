"""Adapters: few new parameters, or few of the existing ones, train in place of a whole backbone.

An adapter is applied to a backbone before training and merged into its weights before saving and
export. The parameters of the backbone that no adapter trains stay frozen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from visiongraft.adaptation.layers import Adapted, adapter_of, attach, fold
from visiongraft.adaptation.targets import (
    Call,
    WeightedLayer,
    after_first_stage,
    calls,
    own_modules,
    select,
    weighted_layers,
)
from visiongraft.backbone import Backbone
from visiongraft.errors import OptionError

__all__ = [
    "Adapter",
    "AdapterChoice",
    "Applied",
    "Call",
    "LayerAdapter",
    "WeightedLayer",
    "after_first_stage",
    "as_targets",
    "calls",
    "own_modules",
    "select",
    "weighted_layers",
]


class LayerAdapter(nn.Module):
    """The part of an adapter in one layer; it becomes a submodule of that layer.

    It computes either the layer's output (``forward``), or the value of one of the layer's parameters
    (``effective``), wherever that is read.

    Attributes:
        mergeable: Whether ``fold`` can replace it; what cannot is saved and exported with the model.

    Example:
        ::

            class Scale(LayerAdapter):
                def __init__(self, features):
                    super().__init__()
                    self.factor = nn.Parameter(torch.ones(features))

                def forward(self, layer, plain, inputs):
                    return plain(inputs) * self.factor

                def fold(self, layer, parameter):
                    layer.weight.mul_(self.factor[:, None])
                    layer.bias.mul_(self.factor)
    """

    mergeable: ClassVar[bool] = True

    def forward(self, layer: nn.Module, plain: Callable[..., Any], *args: Any) -> Any:
        """Compute the layer's output.

        Args:
            layer: The layer.
            plain: The layer's own computation.
            *args: What the layer is called with.

        Returns:
            What the layer returns instead of ``plain(*args)``.
        """
        return plain(*args)

    def effective(self, tensor: Tensor) -> Tensor:
        """Compute the value of the layer's parameter.

        Args:
            tensor: Its own value.

        Returns:
            What everything that reads the parameter gets, of the same shape.
        """
        return tensor

    def fold(self, layer: nn.Module, parameter: str | None) -> None:
        """Change the layer's own tensors so that it computes the same without this adapter.

        The default writes the value that ``effective`` computes, at least in float32.

        Args:
            layer: The layer; changed in place, without gradients.
            parameter: The parameter that ``effective`` computes; ``None`` for ``"weight"``.
        """
        own = layer._parameters[parameter or "weight"]
        assert own is not None
        own.copy_(self.effective(own.to(torch.promote_types(own.dtype, torch.float32))))


@dataclass(frozen=True)
class Applied:
    """What an adapter did to a backbone, besides the parameters that it added.

    Attributes:
        trains: Names of existing parameters that it trains.
        left_out: Numbers of layers that it could not be put into, by what they are.
    """

    trains: frozenset[str] = frozenset()
    left_out: Mapping[str, int] = field(default_factory=dict)


class Adapter(ABC):
    """Base of adapters; options are the constructor's keywords.

    Attributes:
        name: The name by which users select the adapter, and of the submodules that it adds.
        freezes_base: Whether the parameters that no adapter trains stay frozen.

    Example:
        ::

            class Scaling(Adapter):
                name = "scaling"

                def apply(self, backbone):
                    for name, module in backbone.named_modules():
                        if isinstance(module, nn.Linear):
                            self.attach(backbone, name, Scale(module.out_features))
                    return Applied()
    """

    name: ClassVar[str]
    freezes_base: ClassVar[bool] = True

    @abstractmethod
    def apply(self, backbone: Backbone) -> Applied:
        """Add parameters to a backbone, or choose existing ones.

        The backbone must compute the same as before. What is added is found again by its name, so the
        same backbone must always get the same.

        Args:
            backbone: The backbone; ``attach`` changes its layers.

        Returns:
            What it did.

        Raises:
            OptionError: The backbone has nothing that this adapter applies to.
        """

    def attach(
        self, backbone: Backbone, layer: str, adapter: LayerAdapter, parameter: str | None = None
    ) -> None:
        """Put a part of this adapter into a layer; a layer holds one at most.

        Args:
            backbone: The backbone.
            layer: Name of the layer in the backbone.
            adapter: What to add.
            parameter: Name of the parameter whose value it computes; ``None`` if it computes the
                layer's output.

        Raises:
            OptionError: The layer has an adapter already.
        """
        try:
            attach(backbone.get_submodule(layer), self.name, adapter, parameter)
        except OptionError as error:
            raise OptionError(
                f"adapter {self.name!r} cannot be put into layer {layer!r}: {error}; choose other "
                "targets"
            ) from error

    def layers(self, backbone: Backbone) -> dict[str, nn.Module]:
        """Return the layers of a backbone that have this adapter, by name."""
        return {
            name: module
            for name, module in own_modules(backbone).items()
            if isinstance(module, Adapted) and module.adapter_name == self.name
        }

    def merge(self, backbone: Backbone) -> None:
        """Fold this adapter into the weights of a backbone, and remove it; once more changes nothing.

        Args:
            backbone: The backbone; changed in place. What cannot be merged stays.

        Raises:
            TrainingError: The merged weights are not finite.
        """
        for layer in self.layers(backbone).values():
            if adapter_of(layer).mergeable:
                fold(layer)


@dataclass(frozen=True)
class AdapterChoice:
    """An adapter and the options that a user set.

    Attributes:
        name: By which the adapter was found.
        adapter: The adapter.
        options: Keywords of its constructor.
    """

    name: str
    adapter: Adapter
    options: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return name and options, from which ``find_adapter`` makes the choice again."""
        return {"name": self.name, "options": dict(self.options)}


def as_targets(option: str, value: object) -> tuple[str, ...]:
    """Check the option of an adapter that names layers.

    Args:
        option: Its name, for the message.
        value: One name or pattern, or several.

    Returns:
        All of them.

    Raises:
        OptionError: It is something else.
    """
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(n, str) and n for n in names):
        raise OptionError(f"{option}={value!r} is not a name of layers or a list of names")
    return tuple(names)
