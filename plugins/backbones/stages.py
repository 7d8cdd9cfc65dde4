"""Assign the tensors of a model to stages, in the order in which modules run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from torch import nn

_UNMATCHED = "?"  # a name that no architecture's patterns match
_LAYER = re.compile(r"(?:^|\.)(?:layers?|stages|blocks|resblocks)\.?(\d+)(?:\.|$)")


def tensor_names(model: nn.Module) -> list[str]:
    """Return the names of all parameters and buffers, the keys of ``BackboneInfo.stage_of``."""
    return [n for n, _ in chain(model.named_parameters(), model.named_buffers())]


def timm_stages(model: nn.Module, called: Sequence[str]) -> dict[str, int]:
    """Number the tensors of a timm model by stage.

    The architecture's own grouping is used. Tensors that it omits, or groups before modules that run
    earlier, are assigned to the stage that is active when their module is first called. A frozen
    prefix of stages therefore never depends on a later stage.

    Args:
        model: The model.
        called: Names of its modules in the order of their first call.

    Returns:
        Number by name of parameter and buffer, smaller numbers closer to the input.
    """
    names = tensor_names(model)
    groups = _own_groups(model, names) or _groups_by_feature_map(model, names)
    order = {module: i for i, module in enumerate(called)}
    numbers: dict[str, int] = {}
    active = 0
    for name in sorted(names, key=lambda n: _first_use(n, order)):
        number = groups.get(name, active)
        if name.rpartition(".")[0] in order:
            active = number = max(number, active)
        numbers[name] = number
    return numbers


def layer_stages(model: nn.Module, called: Sequence[str]) -> dict[str, int]:
    """Number the tensors of a network of numbered layers: each of these is a stage.

    What runs before the layers is in the first stage, what runs after them in the last one.

    Args:
        model: The model.
        called: Names of its modules in the order of their first call.

    Returns:
        Number by name of parameter and buffer, smaller numbers closer to the input.
    """
    order = {module: i for i, module in enumerate(called)}
    first = min((i for module, i in order.items() if _LAYER.search(module)), default=0)
    layers = {name: _LAYER.search(name) for name in tensor_names(model)}
    last = max((int(match[1]) + 1 for match in layers.values() if match), default=0)
    return {
        name: int(match[1]) + 1 if match else 0 if _first_use(name, order) < first else last
        for name, match in layers.items()
    }


def _first_use(name: str, order: Mapping[str, int]) -> int:
    """Return the position of the module that owns a tensor, or of its nearest parent that ran."""
    owner = name.rpartition(".")[0]
    while owner and owner not in order:
        owner = owner.rpartition(".")[0]
    return order.get(owner, -1)


def _own_groups(model: nn.Module, names: Iterable[str]) -> dict[str, int]:
    """Group by the architecture's patterns; omit unmatched names."""
    from timm.models._manipulate import group_with_matcher

    try:
        matcher = model.group_matcher(coarse=True)  # type: ignore[operator]
    except (AttributeError, AssertionError, NotImplementedError):
        return {}
    named = ((name, None) for name in chain(names, [_UNMATCHED]))
    groups: dict[str, int] = group_with_matcher(named, matcher, reverse=True)
    unmatched = groups.pop(_UNMATCHED)
    return {name: group for name, group in groups.items() if group != unmatched}


def _groups_by_feature_map(model: nn.Module, names: Iterable[str]) -> dict[str, int]:
    """Group by the modules whose outputs the architecture declares as feature maps."""
    modules = [str(entry["module"]) for entry in model.feature_info]  # type: ignore[union-attr]
    return {
        name: i + 1
        for name in names
        for i, module in enumerate(modules)
        if name.startswith(f"{module}.")
    }
