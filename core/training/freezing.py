"""Frozen means frozen: what trains, what does not, and the receipt that proves it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from visiongraft.backbone import Backbone
from visiongraft.errors import ReceiptError, ScheduleError, near_matches
from visiongraft.network import Network
from visiongraft.schedules import Phase
from visiongraft.training.optimizers import named_parameters


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


def apply_phase(network: Network, phase: Phase) -> None:
    """Freeze and unfreeze a network for a phase, without replacing any parameter or module.

    Frozen parameters get no gradient; the modules that hold them stay in evaluation mode through
    every ``train()``. Head and losses always train, but for what they create with
    ``requires_grad=False``.

    Args:
        network: The network; changed in place.
        phase: The phase, which defines what is trained.

    Raises:
        ScheduleError: The phase names a stage that the backbone does not have.
    """
    backbone = network.backbone
    chosen = set(trainable_stages(backbone.stages, phase.trainable))
    fixed = _created_frozen(network)
    for name, parameter in network.named_parameters():
        part, _, rest = name.partition(".")
        trains = backbone.info.stage_of[rest] in chosen if part == "backbone" else name not in fixed
        parameter.requires_grad_(trains)
        if not trains:
            parameter.grad = None
    held = [*_frozen_modules(backbone, chosen), *_modules_of(network, fixed)]
    if phase.batch_norm == "frozen":
        held += [m for m in backbone.modules() if isinstance(m, _BatchNorm) and m not in held]
    network.held_in_eval = tuple(held)
    network.train(network.training)


def parameter_groups(network: Network, phase: Phase, weight_decay: float) -> list[dict[str, Any]]:
    """Sort the trainable parameters into optimizer groups.

    Stages further from the head learn more slowly (layer decay); vectors and scalars, that is
    biases and normalization weights, get no weight decay.

    Args:
        network: A network that ``apply_phase`` has prepared.
        phase: The phase, with learning rate and layer decay.
        weight_decay: Weight decay of everything else.

    Returns:
        One dict per group: ``params``, ``names``, ``lr`` (peak), ``peak_lr``, ``weight_decay``.
    """
    stages = network.backbone.stages
    stage_of = network.backbone.info.stage_of
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        part, _, rest = name.partition(".")
        depth = len(stages) - stages.index(stage_of[rest]) if part == "backbone" else 0
        decays = parameter.ndim > 1
        rate = phase.learning_rate * phase.layer_decay**depth
        group = groups.setdefault(
            (depth, decays),
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


@dataclass(frozen=True)
class Receipt:
    """Proof that a phase did not change the tensors that it froze.

    Attributes:
        phase: Position of the phase in the schedule.
        trainable: What the phase trained.
        frozen: SHA-256 of each frozen tensor, equal at the start and at the end of the phase.
        modules_in_eval: How many modules stayed in evaluation mode.
        optimizer_parameters: How many parameters the optimizer held, each of them trainable.
        ema_checked: Whether the averaged copy was checked as well.
    """

    phase: int
    trainable: str
    frozen: dict[str, str]
    modules_in_eval: int
    optimizer_parameters: int
    ema_checked: bool

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class FrozenSnapshot:
    """The tensors that a phase must not change, recorded at its start and checked at its end.

    Attributes:
        digests: SHA-256 of each frozen tensor by name.
    """

    digests: dict[str, str]

    @classmethod
    def take(cls, network: Network) -> FrozenSnapshot:
        """Record the frozen tensors of a network that ``apply_phase`` has prepared."""
        return cls({name: digest(t) for name, t in frozen_tensors(network).items()})

    def check(
        self,
        network: Network,
        optimizer: torch.optim.Optimizer,
        *,
        phase: Phase,
        index: int,
        ema: Mapping[str, Tensor] | None = None,
    ) -> Receipt:
        """Prove that nothing frozen has changed.

        Args:
            network: The network after the phase, not yet prepared for the next one.
            optimizer: The phase's optimizer.
            phase: The phase that ran.
            index: Its position in the schedule.
            ema: Averaged tensors by name, if any are kept.

        Returns:
            The receipt.

        Raises:
            ReceiptError: Something frozen changed; the message names the first such tensor.
        """
        where = f"in phase {index + 1} (trainable={phase.trainable!r})"
        check_modes(network, where)
        self._check_tensors(frozen_tensors(network), "", where)
        averaged = {n: t for n, t in (ema or {}).items() if n in self.digests}
        self._check_tensors(averaged, "the averaged copy of ", where, complete=False)
        held = check_optimizer(network, optimizer, where)
        return Receipt(
            index,
            phase.trainable,
            self.digests,
            len(network.held_in_eval),
            held,
            ema is not None,
        )

    def _check_tensors(
        self, tensors: Mapping[str, Tensor], what: str, where: str, complete: bool = True
    ) -> None:
        changed = [n for n, t in tensors.items() if self.digests.get(n) != digest(t)]
        if complete:
            changed += [n for n in self.digests if n not in tensors]
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise ReceiptError(
                f"frozen tensor {what}{changed[0]!r}{more} changed {where}; something outside the "
                "schedule wrote to it: look for code that calls train(), steps another optimizer "
                "or replaces parameters"
            )


def frozen_tensors(network: Network) -> dict[str, Tensor]:
    """List every tensor that must not change in the current phase.

    Args:
        network: A network that ``apply_phase`` has prepared.

    Returns:
        Parameters without gradient, and buffers of modules held in evaluation mode, by name.
    """
    held = {id(m) for m in network.held_in_eval}
    fixed = _created_frozen(network)
    found = {
        n: p.detach()
        for n, p in network.named_parameters()
        if n in fixed or (n.startswith("backbone.") and not p.requires_grad)
    }
    for prefix, module in network.named_modules():
        if id(module) in held:
            for name, buffer in module.named_buffers(recurse=False):
                found[f"{prefix}.{name}"] = buffer
    return found


def check_modes(network: Network, where: str) -> None:
    """Prove that frozen modules are in evaluation mode and normalize by running statistics.

    Args:
        network: A network that ``apply_phase`` has prepared.
        where: Phase and moment in words, for the message.

    Raises:
        ReceiptError: One is not.
    """
    names = {id(m): n for n, m in network.named_modules()}
    for module in network.held_in_eval:
        name = names.get(id(module))
        if name is None:
            raise ReceiptError(f"a frozen module was replaced {where}: {type(module).__name__}")
        if module.training:
            raise ReceiptError(f"frozen module {name!r} was put into training mode {where}")
        if isinstance(module, _BatchNorm) and (
            module.running_mean is None or not module.track_running_stats
        ):
            raise ReceiptError(
                f"frozen batch norm {name!r} has no running statistics in use {where}: it would "
                "normalize by the batch in training and otherwise in evaluation"
            )


def check_optimizer(network: Network, optimizer: torch.optim.Optimizer, where: str) -> int:
    """Prove that an optimizer holds every trainable parameter once, and nothing frozen.

    Parameters are compared by identity, never by value.

    Args:
        network: A network that ``apply_phase`` has prepared.
        optimizer: The optimizer.
        where: Phase and moment in words, for the message.

    Returns:
        How many parameters it holds.

    Raises:
        ReceiptError: A parameter is missing, held twice, foreign or frozen.
    """
    names = {id(p): n for n, p in network.named_parameters()}
    trainable = {id(p) for p in network.parameters() if p.requires_grad}
    listed = [id(p) for group in optimizer.param_groups for p in group["params"]]
    held = set(listed) | {id(p) for p in optimizer.state}
    # In the network's order, so that the message is the same in every process.
    missing = [name for i, name in names.items() if i in trainable - set(listed)]
    surplus = [name for i, name in names.items() if i in held - trainable]
    if held - set(names):
        surplus.append("a tensor that is not a parameter of the network")
    if missing:
        raise ReceiptError(f"trainable parameter {missing[0]!r} is not in the optimizer {where}")
    if surplus:
        raise ReceiptError(f"the optimizer holds {surplus[0]!r}, which is frozen, {where}")
    if len(listed) != len(set(listed)):
        raise ReceiptError(f"the optimizer holds a parameter twice {where}")
    return len(listed)


def check_moments(
    before: torch.optim.Optimizer | None, after: torch.optim.Optimizer, where: str
) -> None:
    """Check that parameters which continue training keep their optimizer state.

    Args:
        before: The optimizer of the phase before, if there was one.
        after: The optimizer of this phase.
        where: Phase and moment in words, for the message.

    Raises:
        ReceiptError: A parameter's state was lost.
    """
    kept = named_parameters(before) if before else {}
    known = {n: before.state[p] for n, p in kept.items() if before and p in before.state}
    for name, parameter in named_parameters(after).items():
        if name in known and after.state.get(parameter) is not known[name]:
            raise ReceiptError(f"the optimizer lost the moments of {name!r} {where}")


def digest(tensor: Tensor) -> str:
    """Hash a tensor's bytes, shape and type.

    Args:
        tensor: Any tensor.

    Returns:
        SHA-256 in hexadecimal.

    Examples:
        >>> one = torch.zeros(2)
        >>> digest(one) == digest(torch.zeros(2)), digest(one) == digest(torch.zeros(2, 1))
        (True, False)
    """
    flat = tensor.detach().cpu().contiguous().flatten()
    content = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    content.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return content.hexdigest()


def _frozen_modules(backbone: Backbone, chosen: set[str]) -> list[nn.Module]:
    """List the modules that are entirely in frozen stages.

    A module without tensors of its own (activation, dropout, pooling) goes with the tensors that
    are defined before it, since definitions follow the data.
    """
    stage_of = backbone.info.stage_of
    stages = backbone.stages
    stage = stages[0]
    leaf_frozen: dict[str, bool] = {}
    for prefix, module in backbone.named_modules():
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        named = [f"{prefix}.{n}" if prefix else n for n, _ in own]
        known = [stage_of[n] for n in named if n in stage_of]
        if known:
            stage = max(known, key=stages.index)
        if known or not any(True for _ in module.children()):
            leaf_frozen[prefix] = not any(s in chosen for s in (known or [stage]))
    frozen = []
    for prefix, module in backbone.named_modules():
        inside = [
            f
            for n, f in leaf_frozen.items()
            if not prefix or n == prefix or n.startswith(prefix + ".")
        ]
        if inside and all(inside):
            frozen.append(module)
    return frozen


def _created_frozen(network: Network) -> frozenset[str]:
    """Return the names of the parameters that head, loss and transfer loss created as frozen."""
    if network.transfer is None:
        return network.created_frozen
    return network.created_frozen | {f"transfer.{n}" for n in network.transfer.created_frozen}


def _modules_of(network: Network, fixed: Collection[str]) -> list[nn.Module]:
    """List the modules that have parameters, all of which are fixed, and everything inside them."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found: dict[nn.Module, None] = {}
    for part in (network.head, network.loss, network.transfer):
        for module in part.modules() if part is not None and fixed else ():
            inside = [names[id(parameter)] for parameter in module.parameters()]
            if inside and all(name in fixed for name in inside):
                found |= dict.fromkeys(module.modules())
    return list(found)
