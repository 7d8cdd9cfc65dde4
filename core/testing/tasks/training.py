"""Checks that train a task with the real engine: learning, freezing, resuming."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from visiongraft.data.samples import Samples
from visiongraft.errors import ReplayError
from visiongraft.hookspecs import hookimpl
from visiongraft.registry.manager import plugins
from visiongraft.schedules import Schedule
from visiongraft.task import Task
from visiongraft.testing.report import Fault, NotTried, checks_of, expect, trying
from visiongraft.testing.tasks.metrics import best_of, bounds_of
from visiongraft.testing.tasks.trial import (
    Killed,
    RunRecorder,
    TaskTrial,
    Trained,
    headline,
    same,
)
from visiongraft.training.checkpoint import Checkpoint
from visiongraft.training.freezing import frozen_tensors

check = checks_of(TaskTrial.of)


@check("task.Task.build_loss")
def a_few_images_are_overfit(trial: TaskTrial) -> None:
    """The task learns a few images by heart: the loss falls and the headline gets near its best."""
    trained = trial.trained()
    task, samples = trained.model.task, trained.run.training
    steps = len(trained.losses)
    tenth = max(steps // 10, 1)
    first, last = (
        sum(part["loss"] for part in some) / tenth
        for some in (trained.losses[:tenth], trained.losses[-tenth:])
    )
    words = f"to train on {len(samples)} images for {steps} steps"
    expect(last < first, words, f"a loss that went from {first:.4g} to {last:.4g}", "a falling one")
    before = trial.measure(trial.network(), samples)
    after = trial.measure(trial.overfit(), samples)
    expect(
        _is_near_best(task, before, after),
        words,
        f"{task.headline} {after:.4g} on those images, {before:.4g} without training",
        f"a value near {best_of(task):g}: does the loss measure what the headline does, and do the "
        "example data show it?",
        "task.Task.decode",
    )
    mixed_up = _mixed_up(trial, samples)
    if mixed_up is not None:
        least = 0.01 * max(abs(after), abs(mixed_up))  # more than rounding
        expect(
            (after - mixed_up if task.better == "higher" else mixed_up - after) > least,
            f"{words}, and measure each image by the target of another one",
            f"{task.headline} {mixed_up:.4g}, no worse than the {after:.4g} of the right targets",
            "a worse one: results that follow from the image, not one for all images",
            "task.Task.build_head",
        )


@check("training.freezing.Receipt")
def frozen_stays_frozen(trial: TaskTrial) -> None:
    """Under every built-in schedule, what is frozen stays as it is, batch norms included."""
    own = [r for r in plugins().records if r.distribution == "visiongraft"]
    names = {name for record in own for name in record.provides.get("schedule", ())}
    names &= plugins().schedules().keys()
    if not names:
        raise NotTried("the built-in schedules are not installed")
    for name in sorted(names):
        expect_frozen(trial, name)


@check("seeds.seeded")
def equal_runs_are_equal(trial: TaskTrial) -> None:
    """Two runs of equal settings give identical weights and metrics."""
    one, other = trial.short("run"), trial.short("second run")
    expect_same_runs(
        one,
        other,
        "to train twice with one seed",
        "identical results: randomness from torch, numpy or random only, and no state outside of "
        "parameters and buffers",
    )


@check("task.Task.build_loss")
def a_killed_run_resumes_exactly(trial: TaskTrial) -> None:
    """A run that is killed and resumed ends as one that never stopped, bit by bit."""
    whole = trial.short("run")
    settings = trial.short_settings("killed run")
    steps = len(whole.losses)
    # Where there are two phases, the first step of the second, before its checkpoint is saved; then
    # again one step later, which is in the midst of an epoch.
    first = steps // 2 + 1
    _kill(trial, first, **settings)
    words = f"to kill a run after step {first} of {steps} and resume it"
    if first < steps:
        _kill(trial, 2, resume=True, **settings)
        words = f"to kill a run after steps {first} and {first + 1} of {steps} and resume it"
    resumed = trial.fit(words, resume=True, **settings)
    expect_same_runs(
        whole,
        resumed,
        words,
        "what the run that never stopped gives: what changes in training is kept in registered "
        "parameters and buffers",
    )


def _kill(trial: TaskTrial, step: int, **settings: Any) -> None:
    words = "to train until killed"
    try:
        trial.fit(words, witness=RunRecorder(stop_at=step), **settings)
    except Killed:
        return
    raise Fault(words, f"a run that ended before step {step}", "as many steps as another run took")


@check("task.Task.train_transform")
def workers_change_nothing(trial: TaskTrial) -> None:
    """Images loaded by a worker process train as those loaded here do."""
    settings: dict[str, Any] = {"schedule": "full", "epochs": 1}
    alone = trial.fit("to train without worker processes", **settings)
    helped = trial.fit("to train with a worker process", workers=1, **settings)
    _expect_equal(
        alone.model.network.state_dict(),
        helped.model.network.state_dict(),
        "to train with and without a worker process",
        "identical weights",
    )


@check("task.Task.build_head")
def replay_changes_nothing(trial: TaskTrial) -> None:
    """Training on replayed features gives what training on images gives."""
    settings: dict[str, Any] = {"schedule": "linear_probe", "epochs": 3}
    kind = type(trial.task)
    try:
        played = trial.fit("to train a head with replay", replay=True, **settings)
    except Fault as fault:
        own = kind.inference_step is not Task.inference_step
        if own and isinstance(fault.__cause__, ReplayError):
            raise NotTried(f"{kind.__name__}.inference_step: {fault.__cause__}") from None
        raise
    plain = trial.fit("to train a head without replay", **settings)
    expect(
        all(record["replayed"] for record in played.run.history),
        "to train a head with replay",
        "no replay",
        "replay: the head reads features and changes none of them",
    )
    words = "to train a head with and without replay"
    for one, other in zip(plain.losses, played.losses, strict=True):
        expect(
            math.isclose(one["loss"], other["loss"], rel_tol=1e-3, abs_tol=1e-4),
            words,
            f"losses {one['loss']:.6g} and {other['loss']:.6g}",
            "equal losses",
        )


@check("task.Task.training_step")
def half_precision_trains(trial: TaskTrial) -> None:
    """Training in bfloat16 gives finite losses, and results in float32."""
    trained = trial.fit("to train in bfloat16", schedule="full", epochs=1, precision="bf16")
    network = trained.model.network.eval()
    batch = trial.batch(network, range(2))
    words = "to decode what a network in bfloat16 puts out"
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), trying(words):
        decoded = network.decode(batch.images, batch.sizes)
    for name, value in decoded.items():
        expect(
            value.dtype not in (torch.bfloat16, torch.float16),
            words,
            f"{name!r} in {value.dtype}",
            "float32: decode begins with outputs.float()",
            "task.Task.decode",
        )


def expect_frozen(trial: TaskTrial, schedule: str | Schedule, **more: Any) -> None:
    """Raise a fault unless a schedule leaves alone what it freezes."""
    watch = FrozenWatch()
    name = schedule if isinstance(schedule, str) else schedule.name
    words = f"to train by schedule {name!r} on backbone {trial.normalized}"
    settings: dict[str, Any] = {"backbone": trial.normalized, "schedule": schedule, "epochs": 2}
    trial.fit(words, witness=watch, **settings, **more)
    got = f"other values in {', '.join(watch.changed[:3])}"
    expect(not watch.changed, words, got, "frozen tensors as they were")


class FrozenWatch(RunRecorder):
    """Keeps a copy of what each phase freezes, and compares at its end; receipts do it by hash."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: dict[str, Tensor] = {}
        self.changed: list[str] = []

    @hookimpl
    def phase_started(self, run: Any) -> None:
        """Copy."""
        self.copies = {n: t.clone() for n, t in frozen_tensors(run.network).items()}

    @hookimpl
    def phase_ended(self, run: Any) -> None:
        """Compare."""
        now = dict(run.network.state_dict())
        self.changed += [n for n, t in self.copies.items() if not torch.equal(t, now[n])]


def _is_near_best(task: Any, before: float, after: float) -> bool:
    """Say whether training brought the headline half way to its best, or to within a tenth."""
    best = best_of(task)
    low, high = bounds_of(task)
    sign = 1.0 if task.better == "higher" else -1.0
    if math.isinf(best):
        return sign * after > sign * before
    near = abs(best - after) <= 0.1 * (high - low) if math.isfinite(high - low) else False
    return near or abs(best - after) <= 0.5 * abs(best - before)


def _mixed_up(trial: TaskTrial, samples: Samples) -> float | None:
    """Measure images by the targets of others; nothing where targets fit no other image."""
    network, order = trial.overfit(), torch.randperm(len(samples)).tolist()
    batch = next(iter(trial.batches(network, samples, [range(len(samples))])))
    metrics = network.task.build_metrics()
    try:
        targets = network.task.collate([samples.target(i) for i in order])
        metrics.update(trial.decode(network, batch), targets)
        return headline(network.task, metrics.compute())
    except Exception:  # whatever a task makes of targets that are too large for their images
        return None


def expect_same_runs(one: Trained, other: Trained, tried: str, expected: str) -> None:
    """Raise a fault unless two runs took the same steps and ended with the same checkpoint."""
    assert one.folder is not None and other.folder is not None
    # A resumed run tells of its last steps only.
    for first, second in zip(one.losses[::-1], other.losses[::-1], strict=False):
        expect(first == second, tried, f"losses {second}, not {first}", expected)
    folders = (one.folder, other.folder)
    ends = [Checkpoint.read(f / "checkpoints" / "last.safetensors").tensors for f in folders]
    expect(ends[0].keys() == ends[1].keys(), tried, f"only {', '.join(ends[1])}", expected)
    for group, tensors in ends[0].items():
        _expect_equal(tensors, ends[1][group], tried, expected)
    histories = [(f / "metrics.jsonl").read_text("utf-8").splitlines() for f in folders]
    for line, again in zip_longest(*histories):
        expect(line == again, tried, f"metrics {again}, not {line}", expected)


def _expect_equal(
    one: Mapping[str, Tensor], other: Mapping[str, Tensor], tried: str, expected: str
) -> None:
    odd = sorted(one.keys() ^ other.keys())
    expect(not odd, tried, f"{', '.join(odd[:3])} in one of them only", expected)
    for name, tensor in one.items():
        if not same(tensor, other[name]):
            difference = float((tensor.double() - other[name].double()).abs().max())
            raise Fault(tried, f"{name!r} that differs by {difference:.2g}", expected)


TRAINING_CHECKS = (
    a_few_images_are_overfit,
    frozen_stays_frozen,
    equal_runs_are_equal,
    a_killed_run_resumes_exactly,
    workers_change_nothing,
    replay_changes_nothing,
    half_precision_trains,
)
