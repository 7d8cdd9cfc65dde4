"""What a phase trains: the parameters that it selects, and the modules that stay in evaluation mode."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from visiongraft.adaptation.layers import Adapted
from visiongraft.backbone import Backbone
from visiongraft.errors import ScheduleError, near_matches
from visiongraft.network import Network
from visiongraft.schedules import Phase

LOSSES = ("loss.", "transfer.")
WILDCARDS = frozenset("*?[")


def trainable_stages(stages: Sequence[str], trainable: str) -> tuple[str, ...]:
    """Return the stages that a phase trains.

    Args:
        stages: The backbone's stages, from the input to the output.
        trainable: ``"head"``, ``"all"``, or a stage name.

    Returns:
        Those stages, in order; empty for ``"head"``.

    Raises:
        ScheduleError: There is no such stage.

    Examples:
        >>> trainable_stages(("stem", "stage1", "stage2"), "stage1")
        ('stage1', 'stage2')
    """
    if trainable == "head":
        return ()
    if trainable == "all":
        return tuple(stages)
    if trainable not in stages:
        hint = near_matches(trainable, ["head", "all", *stages])
        raise ScheduleError(f"trainable={trainable!r} is not a stage of this backbone{hint}")
    return tuple(stages[list(stages).index(trainable) :])


def trainable_parameters(network: Network, trainable: str | tuple[str, ...]) -> frozenset[str]:
    """Select the parameters that a phase trains.

    A string selects stages, head and losses, without what was created frozen. A tuple selects exactly
    what it names; of head and losses, what was created frozen stays so. Names of stages, and
    ``"backbone"``, stand for those of the backbones that the loss holds as well; ``"loss"`` for the rest
    of it.

    Args:
        network: The network.
        trainable: See ``Phase``.

    Returns:
        Names of parameters, as in ``network.named_parameters()``.

    Raises:
        ScheduleError: A name selects nothing in this network.
    """
    fixed = created_frozen(network)
    if isinstance(trainable, str):
        chosen = trainable_stages(network.backbone.stages, trainable)
        inside = tuple(f"{prefix}." for prefix in network.backbones())
        names = {name for name, _ in network.named_parameters() if not name.startswith(inside)}
        return frozenset(names.union(*(_of_stage(network, stage) for stage in chosen)) - fixed)
    selected = selected_parameters(network, trainable)
    return frozenset(n for n in selected if n.startswith("backbone.") or n not in fixed)


def selected_parameters(
    network: Network, parts: Iterable[str], asked: str = "trainable"
) -> frozenset[str]:
    """Find the parameters that the names of a selection stand for.

    Args:
        network: The network.
        parts: Stages, ``"backbone"``, ``"head"``, ``"loss"``, adapters, modules, or patterns over the
            names of parameters.
        asked: What names them, for the message.

    Returns:
        Names of parameters.

    Raises:
        ScheduleError: A name stands for none.
    """
    return frozenset[str]().union(*(_selected(network, part, asked) for part in parts))


def apply_phase(network: Network, phase: Phase) -> None:
    """Freeze and unfreeze a network for a phase, without replacing any parameter or module.

    Frozen parameters get no gradient; the modules that hold them stay in evaluation mode through
    every ``train()``.

    Args:
        network: The network; changed in place.
        phase: The phase, which defines what is trained.

    Raises:
        ScheduleError: The phase names something that the network does not have.
    """
    trained = trainable_parameters(network, phase.trainable)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in trained)
        if name not in trained:
            parameter.grad = None
    backbones = network.backbones().items()
    frozen = [m for prefix, each in backbones for m in _frozen_modules(each, prefix, trained)]
    held = [*frozen, *_other_modules(network, trained), *_fixed_norms(network, phase, trained)]
    network.trained = trained
    network.held_in_eval = tuple(dict.fromkeys(held))
    network.train(network.training)


def parameter_groups(
    network: Network, phase: Phase, weight_decay: float, names: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """Sort the trainable parameters into optimizer groups.

    Stages further from the head learn more slowly (layer decay); vectors and scalars, that is
    biases and normalization weights, get no weight decay.

    Args:
        network: A network that ``apply_phase`` has prepared.
        phase: The phase, with learning rate and layer decay.
        weight_decay: Weight decay of everything else.
        names: Parameters to consider; ``None`` for all.

    Returns:
        One dict per group: ``params``, ``names``, ``lr`` (peak), ``peak_lr``, ``weight_decay``.
    """
    factors = _rate_factors(network, phase)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad or (names is not None and name not in names):
            continue
        decays = parameter.ndim > 1
        rate = phase.learning_rate * factors[name]
        group = groups.setdefault(
            (rate, decays),
            {
                "params": [],
                "names": [],
                "lr": rate,
                "peak_lr": rate,
                "weight_decay": weight_decay if decays else 0.0,
            },
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def created_frozen(network: Network) -> frozenset[str]:
    """Return the names of the parameters that head, losses and adapters created as frozen."""
    if network.transfer is None:
        return network.created_frozen
    return network.created_frozen | {f"transfer.{n}" for n in network.transfer.created_frozen}


def _of_stage(network: Network, stage: str) -> frozenset[str]:
    return frozenset(
        f"{prefix}.{name}"
        for prefix, backbone in network.backbones().items()
        for name, _ in backbone.named_parameters()
        if backbone.info.stage_of[name] == stage
    )


def _selected(network: Network, part: str, asked: str) -> frozenset[str]:
    names = [name for name, _ in network.named_parameters()]
    if part in network.backbone.stages:
        return _of_stage(network, part)
    if part in network.adapter_parameters:
        return network.adapter_parameters[part]
    held = tuple(f"{prefix}." for prefix in network.backbones())
    if part == "backbone":
        return frozenset(name for name in names if name.startswith(held))
    if part == "loss":  # of the task and of transfer learning alike; many have no parameters
        return frozenset(n for n in names if n.startswith(LOSSES) and not n.startswith(held))
    if WILDCARDS.isdisjoint(part):
        found = frozenset(n for n in names if n == part or n.startswith(f"{part}."))
    else:
        found = frozenset(name for name in names if fnmatchcase(name, part))
    if not found:
        known = [*network.backbone.stages, "backbone", "head", "loss", *network.adapter_parameters]
        raise ScheduleError(
            f"{asked}={part!r} selects no parameter of this network{near_matches(part, known)}"
        )
    return found


def _rate_factors(network: Network, phase: Phase) -> Mapping[str, float]:
    """Return the factor on the learning rate of each parameter: layer decay, of the task and of the phase."""
    factors = {name: 1.0 for name, _ in network.named_parameters()}
    for prefix, backbone in network.backbones().items():
        stages, stage_of = backbone.stages, backbone.info.stage_of
        for name, _ in backbone.named_parameters():
            depth = len(stages) - stages.index(stage_of[name])
            factors[f"{prefix}.{name}"] = phase.layer_decay**depth
    for rates in (network.task.learning_rates(), phase.rates):
        for part, factor in rates.items():
            for name in selected_parameters(network, (part,), "rates"):
                factors[name] *= factor
    return factors


def _frozen_modules(backbone: Backbone, place: str, trained: Collection[str]) -> list[nn.Module]:
    """List the modules of a backbone in which nothing trains; ``place`` is its name in the network.

    A module without parameters of its own (activation, dropout, pooling) goes with the parameters of
    its stage, and without any tensor with those that are defined before it, since definitions follow
    the data.
    """
    stage_of = backbone.info.stage_of
    active = {stage_of[n] for n, _ in backbone.named_parameters() if f"{place}.{n}" in trained}
    frozen = backbone.stages[0] not in active
    leaves: dict[str, bool] = {}
    for prefix, module in backbone.named_modules():
        parameters = [_joined(prefix, n) for n, _ in module.named_parameters(recurse=False)]
        buffers = [_joined(prefix, n) for n, _ in module.named_buffers(recurse=False)]
        known = [stage_of[n] for n in (*parameters, *buffers) if n in stage_of]
        if parameters:
            frozen = not any(f"{place}.{n}" in trained for n in parameters)
        elif known:
            frozen = active.isdisjoint(known)
        if known or not any(True for _ in module.children()):
            leaves[prefix] = frozen
    found = []
    for prefix, module in backbone.named_modules():
        inside = [
            frozen
            for name, frozen in leaves.items()
            if not prefix or name == prefix or name.startswith(prefix + ".")
        ]
        if inside and all(inside):
            found.append(module)
    return found


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _fixed_norms(network: Network, phase: Phase, trained: Collection[str]) -> Iterator[nn.Module]:
    """Find the batch norms of a backbone whose statistics a phase does not change.

    Beside adapters that freeze the base these are all whose parameters do not train. A batch norm that
    has an adapter itself follows its stage.
    """
    adapters_only = any(name.startswith("backbone.") for name in network.created_frozen)
    backbones = network.backbones().items()
    modules = (pair for prefix, each in backbones for pair in each.named_modules(prefix=prefix))
    for prefix, module in modules:
        if isinstance(module, _BatchNorm) and not isinstance(module, Adapted):
            own = [f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False)]
            trains = any(name in trained for name in own)
            if phase.batch_norm == "frozen" or (adapters_only and not trains):
                yield module


def _other_modules(network: Network, trained: Collection[str]) -> list[nn.Module]:
    """List the modules of head and losses that have parameters, none of which trains, and what they hold."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found: dict[nn.Module, None] = {}
    for part in (network.head, network.loss, network.transfer):
        for module in part.modules() if part is not None else ():
            inside = [names[id(parameter)] for parameter in module.parameters()]
            if inside and not any(name in trained for name in inside):
                found |= dict.fromkeys(module.modules())
    return list(found)
