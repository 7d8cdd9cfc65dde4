"""Adapters of a whole network: applied before training, merged for saving and export, exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from hashlib import sha256
from typing import Any

from torch import Tensor

from visiongraft.adaptation.backbones import apply_adapter, forget_removed, merge_adapters
from visiongraft.adaptation.layers import Adapted, detach
from visiongraft.adaptation.targets import own_modules
from visiongraft.adapters import AdapterChoice
from visiongraft.backbone import Backbone
from visiongraft.errors import OptionError
from visiongraft.network import Network
from visiongraft.training.freezing import digest

PREFIX = "backbone."


def apply_adapters(network: Network, choices: Sequence[AdapterChoice]) -> tuple[str, ...]:
    """Apply adapters to the backbone of a network, and freeze what they do not train.

    Args:
        network: The network; changed in place.
        choices: The adapters, in order.

    Returns:
        One line for each adapter that had to leave layers out.

    Raises:
        OptionError: An adapter is given twice, does not fit the backbone, or has no effect beside the
            others.
        PluginError: An adapter of a plugin fails.
    """
    backbone = network.backbone
    existing = {name for name, _ in backbone.named_parameters()}
    notes = []
    for choice in choices:
        trains, applied = apply_adapter(backbone, choice)
        network.adapter_parameters[choice.adapter.name] = frozenset(PREFIX + n for n in trains)
        notes += [
            f"adapter {choice.name!r} leaves out {count} {what}"
            for what, count in applied.left_out.items()
        ]
    trained = frozenset[str]().union(*network.adapter_parameters.values())
    if freezes_base(network):
        network.created_frozen |= {PREFIX + name for name in existing} - trained
        _refuse_without_effect(network, choices, trained)
    state = backbone.state_dict()
    changing = {n.removeprefix(PREFIX) for n in trained}.intersection(existing)
    changing |= _buffers_beside(backbone, changing)
    network.base_values = {name: state[name].detach().to("cpu", copy=True) for name in changing}
    if freezes_base(network):
        network.base_sha256 = base_digest(network)
    return tuple(notes)


def freezes_base(network: Network) -> bool:
    """Check whether a network has adapters that leave the rest of the backbone frozen."""
    own = network.adapter_parameters
    return any(c.adapter.freezes_base for c in network.backbone.adapters if c.adapter.name in own)


def has_its_base(network: Network) -> bool:
    """Check whether a network has adapters on a base that did not train, also not by its schedule."""
    return freezes_base(network) and base_digest(network) == network.base_sha256


def merged_network(network: Network) -> Network:
    """Return a network with its adapters merged: a copy, or the network itself if it has none.

    Args:
        network: The network; not changed.

    Raises:
        TrainingError: Merged weights are not finite.
    """
    if not network.backbone.adapters:
        return network
    merged = deepcopy(network)
    merge_adapters(merged.backbone)
    merged.adapter_parameters, merged.base_values = {}, {}
    return merged


def remove_adapters(network: Network) -> Backbone:
    """Return the backbone of a network as it was before adapters were applied.

    Args:
        network: The network; its backbone is changed in place and must not be used further in it.
    """
    backbone = network.backbone
    for layer in _adapted(network).values():
        detach(layer)
    backbone.load_state_dict(network.base_values, strict=False)
    own = network.adapter_parameters
    backbone.adapters = tuple(c for c in backbone.adapters if c.adapter.name not in own)
    forget_removed(backbone)
    return backbone


def adapter_state(network: Network) -> dict[str, Tensor]:
    """Return the tensors of a network that its adapters change or add, and those of its head.

    Args:
        network: A network that ``apply_adapters`` has prepared.

    Returns:
        Tensors by names of the network's state.
    """
    own = set().union(*network.adapter_parameters.values())
    own |= {PREFIX + name for name in network.base_values}
    own |= {PREFIX + n for n in _buffers_beside(network.backbone, {n[len(PREFIX) :] for n in own})}
    state = network.inference_state()
    return {n: t for n, t in state.items() if n in own or n.startswith("head.")}


def base_digest(network: Network) -> str:
    """Return a SHA-256 of a network's backbone as it was before adapters were applied.

    Args:
        network: The network; without adapters that of its backbone as it is.
    """
    added = [f"{name}.{layer.adapter_name}." for name, layer in _adapted(network).items()]
    content = [
        f"{name} {digest(network.base_values.get(name, tensor))}"
        for name, tensor in sorted(network.backbone.state_dict().items())
        if not any(name.startswith(prefix) for prefix in added)
    ]
    return sha256("\n".join(content).encode()).hexdigest()


def _refuse_without_effect(
    network: Network, choices: Sequence[AdapterChoice], trained: frozenset[str]
) -> None:
    """Refuse an adapter of layers that train if others freeze all of these layers.

    A frozen layer is in evaluation mode, in which it may compute the same as without the adapter.
    """
    for choice in choices:
        layers = choice.adapter.layers(network.backbone)
        inside = {
            f"{PREFIX}{name}.{parameter}"
            for name, layer in layers.items()
            for parameter, _ in layer.named_parameters()
        }
        if not choice.adapter.freezes_base and inside and not inside & trained:
            others = [repr(c.name) for c in choices if c.adapter.freezes_base]
            raise OptionError(
                f"adapter {choice.name!r} has no effect beside {' and '.join(others)}: the layers that "
                "it is in stay frozen; add an adapter that trains them, or omit it"
            )


def _adapted(network: Network) -> dict[str, Any]:
    """Return the layers with adapters that ``apply_adapters`` put there, by name in the backbone."""
    return {
        name: module
        for name, module in own_modules(network.backbone).items()
        if isinstance(module, Adapted) and module.adapter_name in network.adapter_parameters
    }


def _buffers_beside(backbone: Backbone, parameters: set[str]) -> set[str]:
    """Return the names of the buffers of the modules that own some parameters."""
    owners = {name.rpartition(".")[0] for name in parameters}
    state = backbone.state_dict().keys()
    return {n for n, _ in backbone.named_buffers() if n.rpartition(".")[0] in owners and n in state}
