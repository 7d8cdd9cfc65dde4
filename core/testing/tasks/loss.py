"""Checks of a task's loss; nothing is trained."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from visiongraft.data.batch import Batch, StepInfo
from visiongraft.loss_parts import LossPart, read_parts
from visiongraft.network import Network
from visiongraft.optimizers import name_parts, task_optimizers
from visiongraft.schedules import Phase
from visiongraft.seeds import seeded
from visiongraft.testing.report import Attempt, Checks, NotTried, expect, trying
from visiongraft.testing.tasks.trial import TOGETHER, TaskTrial, score
from visiongraft.training.trainable import (
    apply_phase,
    selected_parameters,
    trainable_parameters,
)

check = Checks(TaskTrial.of)

REPEATED = 4  # times the same images, of which a sum grows as often at least
MOST_GROWTH = 3.0  # of a mean over pairs, whose pairs of one image with itself are new ones


@check("task.Task.build_loss")
def loss_parts_are_means(trial: TaskTrial) -> None:
    """Loss parts are named finite scalars: means over samples or pairs, or sums with their weights."""
    network, batch = trial.together(TOGETHER, training=True)
    whole = losses_of(network, batch)
    if losses_of(network, batch, seed=1) != whole:
        raise NotTried("the loss is random even in evaluation mode")
    if network.task.loss_over_pairs:
        _expect_means_over_pairs(trial, network)
        return
    cuts = (range(2), range(2, TOGETHER))
    parts = [parts_of(network, trial.batch(network, list(cut), training=True)) for cut in cuts]
    computing = Attempt(f"to compute the loss of {TOGETHER} images, and of 2 and 4 of them")
    for part in parts:
        got = f"parts {', '.join(part)}, not {', '.join(whole)}"
        computing.expect(part.keys() == whole.keys(), got, "the same parts for any batch")
    for name, value in whole.items():
        weights = [
            len(cut) if part[name].weight is None else float(part[name].weight or 0)
            for cut, part in zip(cuts, parts, strict=True)
        ]
        total = sum(w * p[name].mean for w, p in zip(weights, parts, strict=True))
        mean = total / sum(weights) if sum(weights) else 0.0
        computing.expect(
            abs(value - mean) <= 1e-3 * max(abs(value), abs(mean), 1e-3),
            f"{name}={value:.6g}, and a mean of {mean:.6g}",
            "equal values: a mean over samples, not a sum, so that gradients can be accumulated and "
            "averaged over processes",
        )


@check("task.Task.build_loss")
def every_single_image_has_a_loss(trial: TaskTrial) -> None:
    """Loss and metrics are finite for every single image, also with an empty target."""
    network, samples = trial.network(), trial.example.splits.train
    measured = trial.samples()
    for index in range(len(samples)):
        target = samples.target(index)
        with trying(f"to compute loss and metrics of one image with target {target!r}"):
            batch = next(iter(trial.batches(network, samples, [[index]])))
            losses_of(network, batch)
            batch = next(iter(trial.batches(network, measured, [[index]])))
            score(network.task, trial.results(network, batch), batch.targets)


@check("task.Task.build_loss")
def learned_tensors_are_registered(trial: TaskTrial) -> None:
    """The tensors that receive gradients are the parameters of backbone, head and loss, and no others."""
    # Images of one size may lack what a part of the loss is over.
    any_size = trial.example.task.varying_loss_parts
    network, batch = trial.together(TOGETHER, any_size, training=True)
    apply_phase(network, Phase(1, "all"))
    network.train()
    total = torch.zeros(())
    for spec in task_optimizers(network.task):
        asked = replace(batch, step=StepInfo(spec.name))
        with seeded(0), trying("to compute the loss of a training batch"):
            parts = read_parts(network(asked), network.task.name)
            total = total + torch.stack([part.value.float() for part in parts.values()]).sum()
    known = {id(p) for p in network.parameters()}
    unknown = [leaf for leaf in _leaves(total) if id(leaf) not in known]
    # Penalties on gradients at images require a gradient of these.
    strays = [tuple(leaf.shape) for leaf in unknown if leaf.shape != batch.images.shape]
    expect(
        not strays,
        "to find the tensors that receive gradients",
        f"a tensor of shape {strays[:1]} that is not a parameter of head or loss",
        "parameters that are registered, as attributes, in ModuleList or ParameterList; others are "
        "not trained, saved or resumed",
    )
    with trying("to compute the gradient of the loss") as computing:
        total.backward()
    backbones = tuple(f"{prefix}." for prefix in network.backbones())  # parts may be left unused
    idle = [
        name
        for name, p in network.named_parameters()
        if name.startswith(("head.", "loss.")) and not name.startswith(backbones)
        if p.requires_grad and p.grad is None
    ]
    expected = "a gradient for every parameter of head and loss"
    got = f"none for {', '.join(idle[:3])}"
    computing.expect(not idle, got, expected, "task.Task.build_head")


@check("task.Task.optimizers")
def every_parameter_has_one_optimizer(trial: TaskTrial) -> None:
    """Each parameter of backbone, head and loss is trained by exactly one optimizer."""
    network = trial.network()
    with trying("to select what each optimizer trains") as selecting:
        owners = Counter(
            name
            for spec in task_optimizers(network.task)
            for name in selected_parameters(network, spec.parts, f"parts of {spec.name!r}")
        )
    trained = trainable_parameters(network, "all")
    none = [name for name, _ in network.named_parameters() if name in trained - owners.keys()]
    several = [name for name, count in owners.items() if count > 1]
    expected = "one optimizer for each parameter"
    selecting.expect(not none, f"none for {', '.join(none[:3])}", expected)
    selecting.expect(not several, f"two for {', '.join(sorted(several)[:3])}", expected)


def losses_of(network: Network, batch: Batch, seed: int = 0) -> dict[str, float]:
    """Compute the loss parts of a batch as means, see ``parts_of``."""
    return {name: part.mean for name, part in parts_of(network, batch, seed).items()}


def parts_of(network: Network, batch: Batch, seed: int = 0) -> dict[str, LossPart]:
    """Compute the loss parts of a batch for each optimizer, without gradients.

    In evaluation mode, so that nothing is random. Some heads return what their loss needs in training
    mode only; then in that mode, but for batch norm and dropout.
    """
    words, see = f"to compute the loss of {len(batch.sizes)} images", "task.Task.training_step"
    found: dict[str, LossPart] = {}
    specs = task_optimizers(network.task)
    for spec in specs:
        asked = replace(batch, step=StepInfo(spec.name))
        with seeded(seed), torch.no_grad(), trying(words, see=see):
            try:
                parts = network.task.training_step(network.eval(), asked)
            except Exception:
                network.train()
                for module in network.modules():
                    if isinstance(module, (_BatchNorm, _DropoutNd)):
                        module.eval()
                parts = network.task.training_step(network, asked)
            read = read_parts(parts, network.task.name)
        for name, part in read.items():
            value, weight = float(part.value), 1.0 if part.weight is None else float(part.weight)
            good = math.isfinite(value) and math.isfinite(weight) and weight >= 0
            expect(good, words, f"{name}={parts[name]!r}", "finite scalar tensors")
        found |= name_parts(read, spec, len(specs))
    return found


def _expect_means_over_pairs(trial: TaskTrial, network: Network) -> None:
    """Check that a loss over pairs depends neither on the order nor on the number of samples."""
    several = list(range(0, len(trial.example.splits.train), 2))[: 2 * TOGETHER]
    batches = [several, several[::-1], several[::2], several[1::2], several * REPEATED]
    whole, turned, one, other, repeated = (
        losses_of(network, trial.batch(network, some, training=True)) for some in batches
    )
    count, differs = len(several), False
    for name, value in whole.items():
        near = 1e-3 * max(abs(value), 1e-3)
        words = f"to compute loss part {name!r} of {count} images"
        equal, got = abs(value - turned[name]) <= near, f"{value:.6g} and {turned[name]:.6g}"
        expect(equal, f"{words}, and of them in another order", got, "equal values")
        expect(
            abs(repeated[name]) <= MOST_GROWTH * abs(value) + near,
            f"{words}, and of each {REPEATED} times",
            f"{value:.6g} and {repeated[name]:.6g}",
            "a mean over pairs, not a sum, so that it does not grow with the batch",
        )
        mean = (len(several[::2]) * one[name] + len(several[1::2]) * other[name]) / count
        differs = differs or abs(value - mean) > near
    expect(
        differs,
        f"to compute the loss of {count} images, and of one half and the other",
        "a mean over samples",
        "a loss that compares samples with each other, because loss_over_pairs is set",
        "task.Task",
    )


def _leaves(result: Tensor) -> list[Tensor]:
    """Find the leaf tensors that a result is differentiable with respect to."""
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


LOSS_CHECKS = tuple(check)
