"""Applying one adapter to a backbone, and merging all of its adapters into its weights."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

from torch import nn

from visiongraft.adaptation.layers import adapter_of, detach, fold
from visiongraft.adaptation.targets import stage_at
from visiongraft.adapters import AdapterChoice, Applied
from visiongraft.backbone import Backbone
from visiongraft.errors import OptionError, PluginError, VisiongraftError, type_and_message


def apply_adapter(backbone: Backbone, choice: AdapterChoice) -> tuple[frozenset[str], Applied]:
    """Apply one adapter to a backbone.

    Args:
        backbone: The backbone; changed in place. Its ``info`` gets the stages of what is new.
        choice: The adapter.

    Returns:
        Names of the parameters that it trains, and what it did.

    Raises:
        OptionError: It does not fit the backbone, or was applied before.
        PluginError: The adapter of a plugin fails.
    """
    adapter, names = choice.adapter, _tensor_names(backbone)
    if adapter.name in (other.adapter.name for other in backbone.adapters):
        raise OptionError(f"adapter {adapter.name!r} is given twice")
    try:
        applied = adapter.apply(backbone)
        _check_folding(choice, adapter.layers(backbone))
    except (VisiongraftError, MemoryError):
        raise
    except Exception as error:  # a third-party adapter may raise any error
        raise PluginError(
            f"adapter {choice.name!r} cannot be applied: {type_and_message(error)}"
        ) from error
    if not isinstance(applied, Applied):
        raise PluginError(f"adapter {choice.name!r} returned {applied!r}, not an Applied")
    parameters = {name for name, _ in backbone.named_parameters()}
    unknown = sorted(applied.trains - parameters)
    if unknown:
        raise PluginError(
            f"adapter {choice.name!r} names {unknown[0]!r}, which is not a parameter of the backbone"
        )
    added = [name for name in _tensor_names(backbone) if name not in names]
    stages = {name: stage_at(backbone, name.rpartition(".")[0]) for name in added}
    backbone.info = replace(backbone.info, stage_of={**backbone.info.stage_of, **stages})
    backbone.adapters += (choice,)
    trains = applied.trains | parameters.intersection(added)
    if not trains and not adapter.layers(backbone):
        raise OptionError(
            f"adapter {choice.name!r} finds nothing to train or to change in backbone "
            f"{backbone.info.name!r}"
        )
    return trains, applied


def merge_adapters(backbone: Backbone) -> None:
    """Merge the adapters of a backbone into its weights; once more changes nothing.

    Args:
        backbone: The backbone; changed in place. Adapters that cannot be merged stay.

    Raises:
        TrainingError: Merged weights are not finite.
    """
    for choice in backbone.adapters:
        choice.adapter.merge(backbone)
    backbone.adapters = tuple(c for c in backbone.adapters if c.adapter.layers(backbone))
    forget_removed(backbone)


def forget_removed(backbone: Backbone) -> None:
    """Remove the stages of tensors that a backbone no longer has from its ``info``."""
    left = set(_tensor_names(backbone))
    stages = {name: stage for name, stage in backbone.info.stage_of.items() if name in left}
    backbone.info = replace(backbone.info, stage_of=stages)


def _check_folding(choice: AdapterChoice, layers: Mapping[str, nn.Module]) -> None:
    """Refuse an adapter that would add or remove tensors when it is merged: no model could load them.

    Raises:
        PluginError: It would.
    """
    for name, layer in layers.items():
        if not adapter_of(layer).mergeable:
            continue
        merged, plain = deepcopy(layer), deepcopy(layer)
        fold(merged)
        detach(plain)
        before, after = (
            {n: t.shape for n, t in each.state_dict().items()} for each in (plain, merged)
        )
        differing = [n for n in before.keys() | after.keys() if before.get(n) != after.get(n)]
        if differing:
            raise PluginError(
                f"adapter {choice.name!r}: merging it into layer {name!r} adds, removes or reshapes "
                f"{min(differing)!r}; fold may only change the values that a layer has, so leave this "
                "layer out, or set mergeable = False"
            )


def _tensor_names(backbone: Backbone) -> list[str]:
    return [n for n, _ in (*backbone.named_parameters(), *backbone.named_buffers())]
