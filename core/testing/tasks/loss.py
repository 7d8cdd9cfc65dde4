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
from visiongraft.testing.report import Checks, NotTried, expect, trying
from visiongraft.testing.tasks.trial import TOGETHER, TaskTrial, headline
from visiongraft.training.freezing import apply_phase

check = Checks(TaskTrial.of)

REPEATED = 4  # times the same images, of which a sum grows as often at least
MOST_GROWTH = 3.0  # of a mean over pairs, whose pairs of one image with itself are new ones


@check("task.Task.build_loss")
def loss_parts_are_means(trial: TaskTrial) -> None:
    """Loss parts are named finite scalars, each a mean over the samples of the batch, or over pairs."""
    network, batch = trial.together(TOGETHER)
    whole = losses_of(network, batch)
    if losses_of(network, batch, seed=1) != whole:
        raise NotTried("the loss is random even in evaluation mode")
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
            "equal values: a mean over samples, not a sum, so that gradients can be accumulated and "
            "averaged over processes",
        )


@check("task.Task.build_loss")
def every_single_image_has_a_loss(trial: TaskTrial) -> None:
    """Loss and metrics are finite for every single image, also with an empty target."""
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
    """The tensors that receive gradients are the parameters of backbone, head and loss, and no others."""
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
        "to find the tensors that receive gradients",
        f"a tensor of shape {strays[:1]} that is not a parameter of head or loss",
        "parameters that are registered, as attributes, in ModuleList or ParameterList; others are "
        "not trained, saved or resumed",
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
        "a gradient for every parameter of head and loss",
        "task.Task.build_head",
    )


def losses_of(network: Network, batch: Batch, seed: int = 0) -> dict[str, float]:
    """Compute the loss parts of a batch, without gradients.

    In evaluation mode, so that nothing is random. Some heads return what their loss needs in training
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
    """Check that a loss over pairs depends neither on the order nor on the number of samples."""
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
