"""Frozen means frozen: the receipt that proves it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from visiongraft.errors import ReceiptError
from visiongraft.network import Network
from visiongraft.schedules import Phase
from visiongraft.training.optimizers import named_parameters


@dataclass(frozen=True)
class Receipt:
    """Proof that a phase did not change the tensors that it froze.

    Attributes:
        phase: Position of the phase in the schedule.
        trainable: What the phase trained.
        frozen: SHA-256 of each frozen tensor, equal at the start and at the end of the phase.
        modules_in_eval: How many modules stayed in evaluation mode.
        optimizer_parameters: How many parameters the optimizers held, each of them trainable.
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
        optimizers: Sequence[torch.optim.Optimizer],
        *,
        phase: Phase,
        index: int,
        averaged: Mapping[str, Tensor] | None = None,
    ) -> Receipt:
        """Prove that nothing frozen has changed.

        Args:
            network: The network after the phase, not yet prepared for the next one.
            optimizers: The phase's optimizers.
            phase: The phase that ran.
            index: Its position in the schedule.
            averaged: Averaged tensors by name, if any are kept.

        Returns:
            The receipt.

        Raises:
            ReceiptError: Something frozen changed; the message names the first such tensor.
        """
        where = f"in phase {index + 1} (trainable={phase.label!r})"
        check_modes(network, where)
        self._check_tensors(frozen_tensors(network), "", where)
        copies = {n: t for n, t in (averaged or {}).items() if n in self.digests}
        self._check_tensors(copies, "the averaged copy of ", where, complete=False)
        held = check_optimizers(network, optimizers, where)
        return Receipt(
            index,
            phase.label,
            self.digests,
            len(network.held_in_eval),
            held,
            averaged is not None,
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
        Parameters that do not train, and buffers of modules held in evaluation mode, by name.
    """
    held = {id(m) for m in network.held_in_eval}
    found = {n: p.detach() for n, p in network.named_parameters() if n not in network.trained}
    for prefix, module in network.named_modules():
        if id(module) in held:
            for name, buffer in module.named_buffers(recurse=False):
                found[f"{prefix}.{name}"] = buffer
    return found


def require_trained(network: Network, receipts: Sequence[Mapping[str, Any]]) -> None:
    """Let what trained in any phase require gradients, also if it was frozen again by the last one.

    Args:
        network: The network after training.
        receipts: The receipts of all phases, as JSON values.
    """
    frozen = set.intersection(*(set(receipt["frozen"]) for receipt in receipts))
    for name, parameter in network.named_parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(name not in frozen)


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


def check_optimizers(
    network: Network, optimizers: Sequence[torch.optim.Optimizer], where: str
) -> int:
    """Prove that optimizers hold every trainable parameter once, and nothing frozen.

    Parameters are compared by identity, never by value.

    Args:
        network: A network that ``apply_phase`` has prepared.
        optimizers: All optimizers of the phase.
        where: Phase and moment in words, for the message.

    Returns:
        How many parameters they hold.

    Raises:
        ReceiptError: A parameter is missing, held twice, foreign or frozen.
    """
    names = {id(p): n for n, p in network.named_parameters()}
    trainable = {id(p) for p in network.parameters() if p.requires_grad}
    listed = [id(p) for o in optimizers for group in o.param_groups for p in group["params"]]
    held = set(listed) | {id(p) for o in optimizers for p in o.state}
    # In the network's order, so that the message is the same in every process.
    missing = [name for i, name in names.items() if i in trainable - set(listed)]
    surplus = [name for i, name in names.items() if i in held - trainable]
    if held - set(names):
        surplus.append("a tensor that is not a parameter of the network")
    if missing:
        raise ReceiptError(f"trainable parameter {missing[0]!r} is not in the optimizer {where}")
    if surplus:
        raise ReceiptError(f"the optimizer holds {surplus[0]!r}, which is frozen, {where}")
    twice = [names[i] for i, times in Counter(listed).items() if times > 1]
    if twice:
        raise ReceiptError(f"the optimizer holds parameter {twice[0]!r} twice {where}")
    return len(listed)


def check_moments(
    before: Iterable[torch.optim.Optimizer], after: Iterable[torch.optim.Optimizer], where: str
) -> None:
    """Check that parameters which continue training keep their optimizer state.

    Args:
        before: The optimizers of the phase before, if there was one.
        after: The optimizers of this phase.
        where: Phase and moment in words, for the message.

    Raises:
        ReceiptError: A parameter's state was lost.
    """
    known = {
        name: optimizer.state[parameter]
        for optimizer in before
        for name, parameter in named_parameters(optimizer).items()
        if parameter in optimizer.state
    }
    for optimizer in after:
        for name, parameter in named_parameters(optimizer).items():
            if name in known and optimizer.state.get(parameter) is not known[name]:
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
