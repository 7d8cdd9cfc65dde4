"""Steps whose loss is a weighted mean over groups of images.

The batches of a step are divided by group, so that each loss is that of one group. This needs nothing of tasks but
what every task promises: parts of a loss are means over samples, or sums with a weight of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from visiongraft.data.loader import BatchIndices
from visiongraft.group_training import GroupTraining
from visiongraft.loss_parts import LossPart
from visiongraft.training.grouped.weights import TrainingGroups, updated_weights
from visiongraft.training.steps import Steps

log = logging.getLogger("visiongraft")

Waiting = tuple[dict[str, LossPart], int]  # loss parts of a batch, and the number of its samples


@dataclass
class GroupedSteps(Steps):
    """Steps that weigh the mean loss of each group."""

    @cached_property
    def groups(self) -> TrainingGroups:
        """The groups of the training images."""
        return TrainingGroups.of(self.run)

    @cached_property
    def method(self) -> GroupTraining:
        """How groups are weighed."""
        found = GroupTraining.read(self.run.config.group_training)
        assert found is not None
        return found

    def plan(self) -> list[BatchIndices]:
        """Sample the batches of the present epoch, and divide each by group."""
        return [
            [part for batch in step for part in self._divided(batch)] for step in super().plan()
        ]

    def _divided(self, batch: list[list[int]]) -> BatchIndices:
        names = self.groups.names
        present = sorted({names[index] for part in batch for index in part})
        return [[[i for i in part if names[i] == group] for part in batch] for group in present]

    def _can_go_backward(self, parts: Mapping[str, LossPart]) -> bool:
        """Wait for the losses of all groups, which decide on their weights."""
        return False

    def _backward(self, waiting: list[Waiting], step: BatchIndices) -> None:
        """Compute the gradients of a step's batches, each weighted by its group."""
        processes = self.accelerator.num_processes
        groups = [self._group(batch) for batch in step]
        images: dict[str, int] = {}
        for group, batch in zip(groups, step, strict=True):
            images[group] = images.get(group, 0) + sum(map(len, batch))
        shares = self._shares(waiting, groups, images)
        losses = self._losses(waiting, groups, shares)
        total = sum(images.values())
        factors = {group: self.groups.factor(group, n, total) for group, n in images.items()}
        weights = self._weigh(losses, images, factors)
        terms = [
            part.value.float() * (share[name] * processes * factors[group] * weights[group])
            for (parts, _), group, share in zip(waiting, groups, shares, strict=True)
            for name, part in parts.items()
        ]
        self.accelerator.backward(torch.stack(terms).sum())

    def _group(self, batch: list[list[int]]) -> str:
        return self.groups.names[next(index for part in batch for index in part)]

    def _shares(
        self, waiting: Sequence[Waiting], groups: Sequence[str], images: Mapping[str, int]
    ) -> list[dict[str, float]]:
        """Return by what each loss part of a batch is multiplied, so that those of a group add up to its mean."""
        weights = {
            group: self._total_weights(
                [w for w, own in zip(waiting, groups, strict=True) if own == group]
            )
            for group in images
        }

        def share(name: str, part: LossPart, count: int, group: str) -> float:
            if part.weight is None:
                return count / images[group]
            total = weights[group][name]
            return 1 / total if count and total else 0.0

        return [
            {name: share(name, part, count, group) for name, part in parts.items()}
            for (parts, count), group in zip(waiting, groups, strict=True)
        ]

    def _losses(
        self, waiting: Sequence[Waiting], groups: Sequence[str], shares: Sequence[dict[str, float]]
    ) -> dict[str, float]:
        """Return the mean loss of each group of the step, over all processes."""
        names = list(dict.fromkeys(groups))
        own = dict.fromkeys(names, 0.0)
        for (parts, _), group, share in zip(waiting, groups, shares, strict=True):
            own[group] += sum(float(p.value.detach()) * share[n] for n, p in parts.items())
        together = torch.tensor(list(own.values()), dtype=torch.float64)
        if self.accelerator.num_processes > 1:
            moved = together.to(self.accelerator.device)
            together = cast(Tensor, self.accelerator.reduce(moved)).cpu()
        return dict(zip(names, together.tolist(), strict=True))

    def _weigh(
        self, losses: Mapping[str, float], images: Mapping[str, int], factors: Mapping[str, float]
    ) -> dict[str, float]:
        """Add up the losses of the epoch, and return the weights of the groups in this step."""
        state = self.run.state.groups
        for group, loss in losses.items():
            before = state["sums"].get(group, [0.0, 0])
            state["sums"][group] = [before[0] + loss * images[group], before[1] + images[group]]
        if self.method.step_size:
            step_size = self.method.step_size
            state["weights"] = updated_weights(state["weights"], losses, factors, step_size)
        weights: dict[str, float] = state["weights"]
        return weights


def warn_of_norms(network: nn.Module) -> None:
    """Warn if batch norm trains, which normalizes the batches of each group by themselves.

    Args:
        network: The network in training mode.
    """
    if any(isinstance(module, _BatchNorm) and module.training for module in network.modules()):
        log.warning(
            "group_training: batch norm trains, and normalizes the images of each group by themselves, as it does not "
            "in evaluation; frozen batch norm (batch_norm='frozen', the default) does not"
        )
