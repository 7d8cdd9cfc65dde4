"""Checks of a task's metrics and of its comparison of results; little or nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visiongraft.data.batch import Batch
from visiongraft.network import Network
from visiongraft.task import Arrays, Task
from visiongraft.testing.equality import difference
from visiongraft.testing.report import Checks, Fault, NotTried, expect, trying
from visiongraft.testing.tasks.forward import TOLERANCE, expect_agreement
from visiongraft.testing.tasks.trial import TOGETHER, TaskTrial, headline, score
from visiongraft.training.evaluation import scalars

check = Checks(TaskTrial.of)


@check("task.Metrics.compute")
def metrics_do_not_depend_on_batches(trial: TaskTrial) -> None:
    """Metrics do not depend on how images are batched, and are JSON values."""
    network, batch = trial.together()
    count = len(batch.sizes)
    everything, single = [range(count)], [range(i, i + 1) for i in range(count)]
    whole = _measured(trial, network, everything)
    for parts, words in (
        ([range(1), range(1, count)], f"{count} images in batches of 1 and {count - 1}"),
        (single, f"{count} images one by one"),
    ):
        apart = difference(whole, _measured(trial, network, parts), TOLERANCE)
        expect(not apart, f"to measure {words}", apart, "the same as in one batch")
    # Two processes take alternate images. The order of tables may differ, numbers may not.
    turned = scalars(_measured(trial, network, [range(0, count, 2), range(1, count, 2)]))
    apart = difference(scalars(whole), turned, TOLERANCE)
    words = f"to measure {count} images in another order, as two processes do"
    expect(not apart, words, apart, "the same as in the original order")


@check("task.Task")
def headline_stays_in_bounds(trial: TaskTrial) -> None:
    """The headline is within its bounds for random, constant and ideal predictions."""
    network, batch = trial.together()
    low, high = bounds_of(network.task)
    for what, results, targets in _all_kinds(trial, network, batch):
        value = _score(network.task, results, targets, what)
        got = f"{network.task.headline} {value:.6g}"
        expected = f"a value from {low:g} to {high:g}; set bounds if others apply"
        expect(low - 1e-6 <= value <= high + 1e-6, f"to measure {what}", got, expected)


@check("task.TaskExamples")
def ideal_predictions_score_best(trial: TaskTrial) -> None:
    """Ideal predictions have the best possible headline."""
    network, batch = trial.together()
    targets = trial.proof_targets(network, batch)
    ideal = trial.ideal(targets)
    if ideal is None:
        raise NotTried("the task's examples have no ideal results")
    real = trial.decode(network, batch)
    shapes, expected = ({n: v.shape for n, v in arrays.items()} for arrays in (ideal, real))
    required = f"names and shapes as decode returns: {expected}"
    expect(shapes == expected, "to make ideal results", shapes, required)
    value = _score(network.task, ideal, targets, "ideal predictions")
    best, got = best_of(network.task), f"{network.task.headline} {value:.6g}"
    near = value == best or abs(value - best) <= 1e-5
    expect(near, "to measure ideal predictions", got, f"{best:g}", "task.Metrics.compute")


@check("task.Task.proof_samples")
def exported_files_are_measured_alike(trial: TaskTrial) -> None:
    """The headline of a network is the same without what only PyTorch computes, as exported files are measured."""
    words = "its results without those of evaluation_step, by the targets of proof_samples"
    for what, network in _networks(trial):
        batch = trial.batch(network, range(len(trial.example.splits.train)))
        evaluated = _score(network.task, trial.results(network, batch), batch.targets, what)
        decoded, targets = trial.decode(network, batch), trial.proof_targets(network, batch)
        exported = _score(network.task, decoded, targets, words)
        expect(
            not difference(evaluated, exported, TOLERANCE),
            f"to measure {what}, and {words}",
            f"{network.task.headline} {evaluated:.6g} and {exported:.6g}",
            "equal values: the headline does without evaluation_step, or proof_samples provides its results",
        )


@check("task.ExportSupport")
def compare_sees_differences(trial: TaskTrial) -> None:
    """Results agree with themselves, and disagree after one image or one output is changed."""
    network, batch = trial.together(TOGETHER)
    decoded = trial.decode(network, batch)
    expect_agreement(network.task, decoded, decoded, "to compare results with themselves", "none")
    for name, values in decoded.items():
        _expect_seen(trial, batch, (name,), slice(None), f"in which {name!r} is changed")
        if values.dtype.kind == "f":
            _expect_seen(trial, batch, (name,), slice(None), f"in which {name!r} is NaN", np.nan)
    for i in range(TOGETHER):
        words = f"of {TOGETHER} images, of which number {i} is changed"
        _expect_seen(trial, batch, tuple(decoded), slice(i, i + 1), words)


def bounds_of(task: Task) -> tuple[float, float]:
    """Return the lowest and highest possible headline of a task."""
    if task.bounds is not None:
        return task.bounds
    return (0.0, 1.0) if task.better == "higher" else (0.0, float("inf"))


def best_of(task: Task) -> float:
    """Return the best possible headline of a task."""
    return bounds_of(task)[1 if task.better == "higher" else 0]


def _measured(trial: TaskTrial, network: Network, parts: Sequence[Sequence[int]]) -> dict[str, Any]:
    metrics = network.task.build_metrics()
    for part in parts:
        one = trial.batch(network, list(part))
        metrics.update(trial.results(network, one), one.targets)
    results = metrics.compute()
    with trying("to write the metrics as JSON", "numbers, strings, lists and dicts"):
        json.dumps(results)
    headline(network.task, results)
    return results


def _expect_seen(
    trial: TaskTrial,
    batch: Batch,
    names: tuple[str, ...],
    rows: slice,
    what: str,
    value: float | None = None,
) -> None:
    """Raise a fault unless a change is detected in some results; empty results need not show it."""
    task, tried = trial.example.task, f"to compare results {what}"
    for reference in _references(trial, batch):
        changed = {name: np.array(values) for name, values in reference.items()}
        for name in names:
            changed[name][rows] = _other(changed[name], value)[rows]
        with trying(tried):
            found = task.export_support().compare(reference, changed)
        if found.mismatches > 0 or not found.difference <= TOLERANCE:
            return
    raise Fault(
        tried,
        "agreement",
        "a difference or mismatches; otherwise the proof of an exported file would be void",
    )


def _references(trial: TaskTrial, batch: Batch) -> Iterator[Arrays]:
    """Yield the results of an untrained network, ideal ones, and those of a trained network."""
    network = trial.network()
    decoded = trial.decode(network, batch)
    yield decoded
    ideal = trial.ideal_like(decoded, network, batch)
    if ideal is not None:
        yield ideal
    with suppress(Fault):  # other checks report it
        yield trial.decode(trial.overfit(), batch)


def _networks(trial: TaskTrial) -> Iterator[tuple[str, Network]]:
    """Yield an untrained network and a trained one."""
    yield "an untrained network", trial.network()
    try:
        trained = trial.overfit()
    except Fault:  # other checks report it
        return
    yield "a trained network", trained


def _other(values: NDArray[Any], value: float | None) -> NDArray[Any]:
    """Change every value: floats by a large amount, integers to other values of the array, if any."""
    if value is not None:
        return np.full_like(values, value)
    if values.dtype.kind == "f":
        return values * 1.5 + 0.5
    if values.dtype.kind == "b" or not values.size:
        return ~values
    low, high = values.min(), values.max()
    high = high if high > low else low - 1 if low > 0 else low + 1
    changed: NDArray[Any] = np.where(values == low, high, low).astype(values.dtype)
    return changed


def _all_kinds(trial: TaskTrial, network: Network, batch: Batch) -> list[tuple[str, Arrays, Any]]:
    """Return results of several kinds, and the targets to measure them by."""
    kinds = [("an untrained network", trial.results(network, batch), batch.targets)]
    with torch.no_grad():
        for module in network.head.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.weight.mul_(-50)  # confident, and different from before
    confident = trial.results(network, batch)
    kinds.append(("an overconfident untrained network", confident, batch.targets))
    targets = trial.proof_targets(network, batch)
    ideal = trial.ideal(targets)
    return kinds if ideal is None else [*kinds, ("ideal predictions", ideal, targets)]


def _score(task: Task, decoded: Arrays, targets: Any, what: str) -> float:
    with trying(f"to measure {what}", see="task.Metrics.compute"):
        return score(task, decoded, targets)


METRIC_CHECKS = tuple(check)
