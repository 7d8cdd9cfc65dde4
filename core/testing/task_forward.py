"""Checks of one forward pass: features, loss, decode, predictions and metrics; nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visiongraft.freezing import apply_phase
from visiongraft.model import TransferModel
from visiongraft.network import Batch, Network
from visiongraft.schedules import Phase
from visiongraft.seeds import seeded
from visiongraft.task import Arrays, Task
from visiongraft.testing.report import Fault, NotTried, checks_of, expect, trying
from visiongraft.testing.trial import TaskTrial, headline

check = checks_of(TaskTrial.of)

TOLERANCE = 1e-4
TOGETHER = 6
REPEATED = 4  # times the same pictures, of which a sum grows as often at least
MOST_GROWTH = 3.0  # of a mean over pairs, whose pairs of one picture with itself are new ones
ODD_SIZES = ((17, 41), (40, 23), (33, 33), (1, 9))


@check("task.Task.build_head")
def features_stay_untouched(trial: TaskTrial) -> None:
    """The head changes none of the features in place, which replay and other heads share."""
    network, batch = _ready(trial, TOGETHER)
    with torch.no_grad():
        features = network.backbone(batch.images)
        before = [t.clone() for t in (*features.maps, features.pooled)]
        for mode in (False, True):
            network.head.train(mode)
            network.head(features)
    names = [*(f"maps[{i}]" for i in range(len(features.maps))), "pooled"]
    after = (*features.maps, features.pooled)
    changed = [n for n, a, b in zip(names, after, before, strict=True) if not torch.equal(a, b)]
    expect(
        not changed,
        "to run the head on features",
        f"other values in {', '.join(changed)} afterwards",
        "the features as they were: no relu_(), mul_() or inplace=True on them",
    )


@check("task.Task.decode")
def decode_is_repeatable(trial: TaskTrial) -> None:
    """Head and decode give equal results when asked twice."""
    network, batch = _ready(trial, TOGETHER)
    with seeded(1), trying("to decode a batch of pictures"):
        first = trial.decode(network, batch)
    with seeded(2), trying("to decode the same pictures again"):
        second = trial.decode(network, batch)
    _expect_agreement(
        network.task, first, second, "to decode the same pictures twice", "equal results"
    )


@check("task.Task.decode")
def batch_size_does_not_matter(trial: TaskTrial) -> None:
    """A picture gives the same alone as among others."""
    network, batch = _ready(trial, TOGETHER)
    together = trial.decode(network, batch)
    for name, values in together.items():
        expect(
            len(values.shape) > 0 and len(values) == TOGETHER,
            f"to decode {TOGETHER} pictures",
            f"{name!r} of shape {values.shape}",
            "the batch as first dimension",
        )
    for parts in (list(_single(TOGETHER)), [range(2), range(2, TOGETHER)]):
        words = f"to decode {TOGETHER} pictures in batches of {[len(p) for p in parts]}"
        with trying(words, "what all together give"):
            each = [trial.decode(network, trial.batch(network, list(p))) for p in parts]
        joined = _joined(each, words)
        _expect_agreement(network.task, together, joined, words, "what all together give")


@check("task.Task.decode")
def no_picture_gives_no_result(trial: TaskTrial) -> None:
    """A batch without pictures is decoded to results of length 0."""
    network, batch = _ready(trial, 2)
    empty = Batch(batch.images[:0], None, batch.sizes[:0], batch.indices[:0])
    words = "to decode a batch without pictures, as the last part of a shared set may be"
    some = trial.decode(network, batch)
    with trying(words, "results of length 0"):
        none = trial.decode(network, empty)
        predictions = network.task.predictions(none)
    # Pictures that are not there have no size, so maps of theirs may have any.
    axes = slice(0) if network.task.at_picture_size else slice(1, None)
    expect(
        {n: (v.dtype, v.ndim, v.shape[axes]) for n, v in none.items()}
        == {n: (v.dtype, v.ndim, v.shape[axes]) for n, v in some.items()}
        and all(len(v) == 0 for v in none.values()),
        words,
        {n: (str(v.dtype), v.shape) for n, v in none.items()},
        f"length 0, else as { ({n: (str(v.dtype), v.shape) for n, v in some.items()}) }",
    )
    expect(
        list(predictions) == [],
        words,
        f"predictions {predictions}",
        "none",
        "task.Task.predictions",
    )


@check("task.Task.build_head")
def any_picture_size_works(trial: TaskTrial) -> None:
    """Odd and non-square pictures are predicted, by networks of square and other input."""
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (*s, 3), dtype=np.uint8) for s in ODD_SIZES]
    for size in ((32, 32), (40, 24)):
        words = f"to predict pictures of {_sizes(ODD_SIZES)} with an input of {_sizes([size])}"
        with trying(words, "one prediction each"):
            found = TransferModel(trial.network(size)).predict(pictures)
        expect(len(found) == len(pictures), words, f"{len(found)} predictions", "one each")


@check("task.Task.predictions")
def predictions_are_plain(trial: TaskTrial) -> None:
    """Each picture gives one dataclass whose fields are JSON values."""
    network, batch = _ready(trial, TOGETHER)
    decoded = trial.decode(network, batch)
    words = f"to make predictions of {TOGETHER} pictures"
    with trying(words):
        found = network.task.predictions(decoded)
    expect(len(found) == TOGETHER, words, f"{len(found)} of them", "one per picture")
    for one in found:
        expect(
            is_dataclass(one) and not isinstance(one, type),
            words,
            f"a {type(one).__name__}",
            "dataclass objects",
        )
        with trying("to write a prediction as JSON", "plain numbers, texts and lists"):
            json.dumps(asdict(one))


@check("task.Task.build_loss")
def loss_parts_are_means(trial: TaskTrial) -> None:
    """Loss parts are named finite scalars, each a mean over the batch's samples, or over pairs."""
    network, batch = _ready(trial, TOGETHER)
    if network.task.loss_over_pairs:
        _expect_means_over_pairs(trial, network)
        return
    whole = _losses(network, batch)
    cuts = (range(2), range(2, TOGETHER))
    parts = [_losses(network, trial.batch(network, list(cut))) for cut in cuts]
    for name, value in whole.items():
        mean = sum(len(c) * p.get(name, 0.0) for c, p in zip(cuts, parts, strict=True)) / TOGETHER
        expect(
            abs(value - mean) <= 1e-3 * max(abs(value), abs(mean), 1e-3),
            f"to compute loss part {name!r} of {TOGETHER} pictures, and of 2 and 4 of them",
            f"{value:.6g}, and a mean of {mean:.6g}",
            "equal ones: a mean over samples, not a sum, so that batches can be accumulated and "
            "shared",
        )


@check("task.Task.build_loss")
def every_single_target_has_a_loss(trial: TaskTrial) -> None:
    """Each picture alone, also one with an empty target, gives a finite loss and is measured."""
    network, samples = trial.network(), trial.example.splits.train
    for index in range(len(samples)):
        target = samples.target(index)
        with trying(f"to compute loss and metrics of one picture with target {target!r}"):
            batch = next(iter(trial.batches(network, samples, [[index]])))
            _losses(network, batch)
            metrics = network.task.build_metrics()
            metrics.update(trial.decode(network, batch), batch.targets)
            headline(network.task, metrics.compute())


@check("task.Task.build_loss")
def learned_tensors_are_registered(trial: TaskTrial) -> None:
    """Whatever gets a gradient is a parameter of backbone, head or loss, and the other way round."""
    network, batch = _ready(trial, TOGETHER)
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


@check("task.Metrics.compute")
def metrics_do_not_depend_on_batches(trial: TaskTrial) -> None:
    """Metrics are the same however the pictures came in batches, and are JSON values."""
    network, _ = _ready(trial, TOGETHER)
    values = []
    for parts in ([range(TOGETHER)], [range(1), range(1, TOGETHER)], list(_single(TOGETHER))):
        metrics = network.task.build_metrics()
        for part in parts:
            one = trial.batch(network, list(part))
            metrics.update(trial.decode(network, one), one.targets)
        results = metrics.compute()
        with trying("to write the metrics as JSON", "numbers, texts, lists and dicts"):
            json.dumps(results)
        values.append(headline(network.task, results))
    expect(
        max(values) - min(values) <= TOLERANCE * max(1.0, abs(values[0])),
        f"to measure {TOGETHER} pictures in one batch, in two and one by one",
        f"{network.task.headline} {', '.join(f'{v:.6g}' for v in values)}",
        "the same each time",
    )


@check("task.Task")
def headline_stays_in_bounds(trial: TaskTrial) -> None:
    """The headline lies within its bounds, for random, constant and ideal predictions."""
    network, batch = _ready(trial, TOGETHER)
    low, high = bounds_of(network.task)
    for what, decoded in _all_kinds(trial, network, batch):
        value = _score(network.task, decoded, batch.targets, what)
        expect(
            low - 1e-6 <= value <= high + 1e-6,
            f"to measure {what}",
            f"{network.task.headline} {value:.6g}",
            f"a value from {low:g} to {high:g}; other bounds are set by 'bounds'",
        )


@check("task.Task.ideal")
def ideal_predictions_score_best(trial: TaskTrial) -> None:
    """Predictions that are all right score the best headline there can be."""
    network, batch = _ready(trial, TOGETHER)
    ideal = network.task.ideal(batch.targets)
    if ideal is None:
        raise NotTried(f"{type(network.task).__name__}.ideal(targets) gives nothing to measure")
    real = trial.decode(network, batch)
    expect(
        {n: np.asarray(v).shape for n, v in ideal.items()} == {n: v.shape for n, v in real.items()},
        "to make ideal results",
        {n: np.asarray(v).shape for n, v in ideal.items()},
        f"names and shapes as decode gives: { ({n: v.shape for n, v in real.items()}) }",
    )
    value = _score(network.task, ideal, batch.targets, "ideal predictions")
    best = best_of(network.task)
    expect(
        value == best or abs(value - best) <= 1e-5,
        "to measure ideal predictions",
        f"{network.task.headline} {value:.6g}",
        f"{best:g}",
        "task.Metrics.compute",
    )


@check("task.Task.compare")
def compare_sees_differences(trial: TaskTrial) -> None:
    """Results compared with themselves agree; changed ones do not."""
    network, batch = _ready(trial, TOGETHER)
    decoded = trial.decode(network, batch)
    _expect_agreement(network.task, decoded, decoded, "to compare results with themselves", "none")
    for name, values in decoded.items():
        changed = dict(decoded)
        changed[name] = values * 1.5 + 0.5 if values.dtype.kind == "f" else 1 - values
        with trying(f"to compare results in which {name!r} is changed"):
            found = network.task.compare(decoded, changed)
        expect(
            found.flips > 0 or found.difference > TOLERANCE,
            f"to compare results in which {name!r} is changed",
            "agreement",
            "a difference or flips; else the exported file would be proved against nothing",
        )


def bounds_of(task: Task) -> tuple[float, float]:
    """Give the least and the greatest headline of a task."""
    if task.bounds is not None:
        return task.bounds
    return (0.0, 1.0) if task.better == "higher" else (0.0, float("inf"))


def best_of(task: Task) -> float:
    """Give the best headline that a task can have."""
    return bounds_of(task)[1 if task.better == "higher" else 0]


def expect_agreement(
    task: Task, reference: Arrays, candidate: Arrays, tried: str, expected: str
) -> None:
    """Raise a fault unless two sets of decoded results agree, by the task's own comparison."""
    _expect_agreement(task, reference, candidate, tried, expected)


def _ready(trial: TaskTrial, count: int) -> tuple[Network, Batch]:
    network = trial.network()
    available = len(trial.example.splits.train)
    if available < count:
        raise Fault(
            "to make example data of 24 pictures",
            f"{available} training pictures",
            "most of them",
            "task.Task.example_data",
        )
    with trying("to load a batch of the example data", see="task.Task.collate"):
        return network, trial.batch(network, range(count))


def _losses(network: Network, batch: Batch) -> dict[str, float]:
    network.eval()
    with seeded(0), torch.no_grad(), trying("to compute the loss", see="task.Task.training_step"):
        parts = network.task.training_step(network, batch)
    words = f"to compute the loss of {len(batch.sizes)} pictures"
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
        _losses(network, trial.batch(network, some)) for some in batches
    )
    count, differs = len(several), False
    for name, value in whole.items():
        near = 1e-3 * max(abs(value), 1e-3)
        expect(
            abs(value - turned[name]) <= near,
            f"to compute loss part {name!r} of {count} pictures, and of them in another order",
            f"{value:.6g} and {turned[name]:.6g}",
            "equal values",
        )
        expect(
            abs(repeated[name]) <= MOST_GROWTH * abs(value) + near,
            f"to compute loss part {name!r} of {count} pictures, and of each {REPEATED} times",
            f"{value:.6g} and {repeated[name]:.6g}",
            "a mean over pairs, not a sum, so that it does not grow with the batch",
        )
        mean = (len(several[::2]) * one[name] + len(several[1::2]) * other[name]) / count
        differs = differs or abs(value - mean) > near
    expect(
        differs,
        f"to compute the loss of {count} pictures, and of one half and the other",
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


def _all_kinds(trial: TaskTrial, network: Network, batch: Batch) -> list[tuple[str, Arrays]]:
    kinds = [("an untrained network", trial.decode(network, batch))]
    with torch.no_grad():
        for module in network.head.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.weight.mul_(-50)  # certain, and otherwise than before
    kinds.append(("a network that is sure without reason", trial.decode(network, batch)))
    ideal = network.task.ideal(batch.targets)
    return kinds if ideal is None else [*kinds, ("ideal predictions", ideal)]


def _score(task: Task, decoded: Arrays, targets: Any, what: str) -> float:
    with trying(f"to measure {what}", see="task.Metrics.compute"):
        metrics = task.build_metrics()
        metrics.update(decoded, targets)
        return headline(task, metrics.compute())


def _joined(parts: Sequence[Arrays], tried: str) -> Arrays:
    with trying(tried, "results that can be joined along the batch"):
        return {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}


def _single(count: int) -> list[range]:
    return [range(i, i + 1) for i in range(count)]


def _sizes(sizes: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{height}x{width}" for height, width in sizes)


def _expect_agreement(
    task: Task, reference: Arrays, candidate: Arrays, tried: str, expected: str
) -> None:
    with trying(f"{tried}, and compare", see="task.Task.compare"):
        found = task.compare(reference, candidate)
    expect(
        found.difference <= TOLERANCE and not found.flips,
        tried,
        f"a relative difference of {found.difference:.1e} and {found.flips} changed decisions",
        expected,
    )


FORWARD_CHECKS = (
    features_stay_untouched,
    decode_is_repeatable,
    batch_size_does_not_matter,
    no_picture_gives_no_result,
    any_picture_size_works,
    predictions_are_plain,
    loss_parts_are_means,
    every_single_target_has_a_loss,
    learned_tensors_are_registered,
    metrics_do_not_depend_on_batches,
    headline_stays_in_bounds,
    ideal_predictions_score_best,
    compare_sees_differences,
)
