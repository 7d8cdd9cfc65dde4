"""Which stage each tensor of a timm model belongs to, following the order in which modules run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from torch import nn

_UNKNOWN = "?"  # a name that no architecture's patterns match


def tensor_names(model: nn.Module) -> list[str]:
    """List all parameters and buffers, as ``BackboneInfo.stage_of`` must hold them."""
    return [n for n, _ in chain(model.named_parameters(), model.named_buffers())]


def in_stages(numbers: Mapping[str, int], prefix: str = "") -> dict[str, str]:
    """Name stages by their numbers: ``stem, stage1, stage2, ...`` without gaps.

    Args:
        numbers: A number per tensor, smaller ones nearer to the input.
        prefix: What to put before the tensors' names.

    Returns:
        Stage per tensor, ordered from the input to the output.

    Examples:
        >>> in_stages({"head.weight": 7, "conv.weight": 0})
        {'conv.weight': 'stem', 'head.weight': 'stage1'}
    """
    rank = {number: i for i, number in enumerate(sorted(set(numbers.values())))}
    return {
        f"{prefix}{name}": f"stage{rank[number]}" if rank[number] else "stem"
        for name, number in sorted(numbers.items(), key=lambda item: item[1])
    }


def timm_stages(model: nn.Module, called: Sequence[str]) -> dict[str, int]:
    """Number the tensors of a timm model by stage.

    The architecture's own grouping decides. What it leaves out, or places before something that
    has run earlier, goes to the stage that is running when its module is first called: so a frozen
    prefix of stages never depends on a later one.

    Args:
        model: The model.
        called: Names of its modules in the order of their first call.

    Returns:
        A number per parameter and buffer, smaller ones nearer to the input.
    """
    names = tensor_names(model)
    groups = _own_groups(model, names) or _groups_by_feature_map(model, names)
    order = {module: i for i, module in enumerate(called)}
    numbers: dict[str, int] = {}
    running = 0
    for name in sorted(names, key=lambda n: _first_use(n, order)):
        number = groups.get(name, running)
        if name.rpartition(".")[0] in order:
            running = number = max(number, running)
        numbers[name] = number
    return numbers


def _first_use(name: str, order: Mapping[str, int]) -> int:
    """Position of the module that uses a tensor: its owner, or else the nearest one around it."""
    owner = name.rpartition(".")[0]
    while owner and owner not in order:
        owner = owner.rpartition(".")[0]
    return order.get(owner, -1)


def _own_groups(model: nn.Module, names: Iterable[str]) -> dict[str, int]:
    """Group by the architecture's patterns; unmatched names are left out."""
    from timm.models._manipulate import group_with_matcher

    try:
        matcher = model.group_matcher(coarse=True)  # type: ignore[operator]
    except (AttributeError, AssertionError, NotImplementedError):
        return {}
    named = ((name, None) for name in chain(names, [_UNKNOWN]))
    groups: dict[str, int] = group_with_matcher(named, matcher, reverse=True)
    unmatched = groups.pop(_UNKNOWN)
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
