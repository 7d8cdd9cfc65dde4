"""Checks of a task's loss; nothing is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from visiongraft.data.batch import Batch
from visiongraft.network import Network
from visiongraft.schedules import Phase
from visiongraft.seeds import seeded
from visiongraft.testing.report import NotTried, checks_of, expect, trying
from visiongraft.testing.tasks.trial import TOGETHER, TaskTrial, headline
from visiongraft.training.freezing import apply_phase

check = checks_of(TaskTrial.of)

REPEATED = 4  # times the same images, of which a sum grows as often at least
MOST_GROWTH = 3.0  # of a mean over pairs, whose pairs of one image with itself are new ones


@check("task.Task.build_loss")
def loss_parts_are_means(trial: TaskTrial) -> None:
    """Loss parts are named finite scalars, each a mean over the batch's samples, or over pairs."""
    network, batch = trial.together(TOGETHER)
    whole = losses_of(network, batch)
    if losses_of(network, batch, seed=1) != whole:
        raise NotTried("the loss is random, in evaluation mode too")
    if network.task.loss_over_pairs:
        _expect_means_over_pairs(trial, network)
        return
    cuts = (range(2), range(2, TOGETHER))
    parts = [losses_of(network, trial.batch(network, list(cut))) for cut in cuts]
    words = f"to compute the loss of {TOGETHER} images, and of 2 and 4 of them"
    for part in parts:
        expect(
            part.keys() == whole.keys(),
            words,
            f"parts {', '.join(part)}, not {', '.join(whole)}",
            "the same parts for any batch",
        )
    for name, value in whole.items():
        mean = sum(len(c) * p[name] for c, p in zip(cuts, parts, strict=True)) / TOGETHER
        expect(
            abs(value - mean) <= 1e-3 * max(abs(value), abs(mean), 1e-3),
            words,
            f"{name}={value:.6g}, and a mean of {mean:.6g}",
            "equal ones: a mean over samples, not a sum, so that batches can be accumulated and "
            "shared",
        )


@check("task.Task.build_loss")
def every_single_target_has_a_loss(trial: TaskTrial) -> None:
    """Each image alone, also one with an empty target, gives a finite loss and is measured."""
    network, samples = trial.network(), trial.example.splits.train
    for index in range(len(samples)):
        target = samples.target(index)
        with trying(f"to compute loss and metrics of one image with target {target!r}"):
            batch = next(iter(trial.batches(network, samples, [[index]])))
            losses_of(network, batch)
            metrics = network.task.build_metrics()
            metrics.update(trial.decode(network, batch), batch.targets)
            headline(network.task, metrics.compute())


@check("task.Task.build_loss")
def learned_tensors_are_registered(trial: TaskTrial) -> None:
    """Whatever gets a gradient is a parameter of backbone, head or loss, and the other way round."""
    network, batch = trial.together(TOGETHER)
    apply_phase(network, Phase(1, "all"))
    network.train()
    with seeded(0), trying("to compute the loss of a training batch"):
        parts = network(batch)
        total = torch.stack([part.float() for part in parts.values()]).sum()
    known = {id(p) for p in network.parameters()}
    strays = [tuple(leaf.shape) for leaf in _leaves(total) if id(leaf) not in known]
    expect(
        not strays,
        "to find what the loss's gradient flows to",
        f"a tensor of shape {strays[:1]} that is no parameter of head or loss",
        "parameters that are registered, as attributes, in ModuleList or ParameterList; others are "
        "neither trained, saved nor resumed",
    )
    with trying("to compute the gradient of the loss"):
        total.backward()
    idle = [
        f"{part}.{name}"
        for part in ("head", "loss")
        for name, p in getattr(network, part).named_parameters()
        if p.requires_grad and p.grad is None
    ]
    expect(
        not idle,
        "to compute the gradient of the loss",
        f"none for {', '.join(idle[:3])}",
        "every parameter of head and loss in use",
        "task.Task.build_head",
    )


def losses_of(network: Network, batch: Batch, seed: int = 0) -> dict[str, float]:
    """Compute the loss parts of a batch, without gradients.

    In evaluation mode, so that nothing is random. Some heads give what their loss needs in training
    mode only; then in that mode, but for batch norm and dropout.
    """
    words = f"to compute the loss of {len(batch.sizes)} images"
    with seeded(seed), torch.no_grad(), trying(words, see="task.Task.training_step"):
        try:
            parts = network.task.training_step(network.eval(), batch)
        except Exception:
            network.train()
            for module in network.modules():
                if isinstance(module, (_BatchNorm, _DropoutNd)):
                    module.eval()
            parts = network.task.training_step(network, batch)
    expect(
        isinstance(parts, dict) and bool(parts),
        words,
        type(parts).__name__,
        "parts by name in a dict",
    )
    for name, part in parts.items():
        good = isinstance(part, Tensor) and part.ndim == 0 and bool(part.isfinite())
        expect(good, words, f"{name}={part!r}", "finite scalar tensors")
    return {name: float(part) for name, part in parts.items()}


def _expect_means_over_pairs(trial: TaskTrial, network: Network) -> None:
    """Hold a loss over pairs to what is true of all of them: order and number do not count."""
    several = list(range(0, len(trial.example.splits.train), 2))[: 2 * TOGETHER]
    batches = [several, several[::-1], several[::2], several[1::2], several * REPEATED]
    whole, turned, one, other, repeated = (
        losses_of(network, trial.batch(network, some)) for some in batches
    )
    count, differs = len(several), False
    for name, value in whole.items():
        near = 1e-3 * max(abs(value), 1e-3)
        expect(
            abs(value - turned[name]) <= near,
            f"to compute loss part {name!r} of {count} images, and of them in another order",
            f"{value:.6g} and {turned[name]:.6g}",
            "equal values",
        )
        expect(
            abs(repeated[name]) <= MOST_GROWTH * abs(value) + near,
            f"to compute loss part {name!r} of {count} images, and of each {REPEATED} times",
            f"{value:.6g} and {repeated[name]:.6g}",
            "a mean over pairs, not a sum, so that it does not grow with the batch",
        )
        mean = (len(several[::2]) * one[name] + len(several[1::2]) * other[name]) / count
        differs = differs or abs(value - mean) > near
    expect(
        differs,
        f"to compute the loss of {count} images, and of one half and the other",
        "a mean over samples",
        "a loss that compares samples with each other, as loss_over_pairs says; else leave it out",
        "task.Task",
    )


def _leaves(result: Tensor) -> list[Tensor]:
    """Find the tensors that a result's gradient flows to."""
    found, seen, nodes = [], set(), [result.grad_fn]
    while nodes:
        node: Any = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        nodes += [before for before, _ in node.next_functions]
    return found


LOSS_CHECKS = (
    loss_parts_are_means,
    every_single_target_has_a_loss,
    learned_tensors_are_registered,
)
