"""Checks that train a task with the real engine: learning, freezing, resuming, saving."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visiongraft.errors import ReplayError
from visiongraft.freezing import frozen_tensors
from visiongraft.hookspecs import hookimpl
from visiongraft.model import TransferModel, load
from visiongraft.plugin_manager import plugins
from visiongraft.progress import Checkpoint
from visiongraft.schedules import Schedule
from visiongraft.task import Task
from visiongraft.testing.processes import start_together, trains_at_random
from visiongraft.testing.report import Fault, NotTried, checks_of, expect, trying
from visiongraft.testing.task_forward import best_of, bounds_of
from visiongraft.testing.trial import (
    Killed,
    TaskTrial,
    Trained,
    Witness,
)

check = checks_of(TaskTrial.of)

PLAIN_SUFFIXES = {".json", ".jsonl", ".safetensors", ".md", ".log", ".png"}
PICKLED = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # zip archives and pickles


@check("task.Task.build_loss")
def a_few_pictures_are_learned(trial: TaskTrial) -> None:
    """The task learns a few pictures by heart: the loss falls and the headline gets near its best."""
    trained = trial.trained()
    task, samples = trained.model.task, trained.run.training
    steps = len(trained.losses)
    tenth = max(steps // 10, 1)
    first, last = (
        sum(part["loss"] for part in some) / tenth
        for some in (trained.losses[:tenth], trained.losses[-tenth:])
    )
    words = f"to train on {len(samples)} pictures for {steps} steps"
    expect(last < first, words, f"a loss that went from {first:.4g} to {last:.4g}", "a falling one")
    before = trial.measure(trial.network(), samples)
    after = trial.measure(trained.model.network, samples)
    expect(
        _is_near_best(task, before, after),
        words,
        f"{task.headline} {after:.4g} on those pictures, {before:.4g} without training",
        f"a value near {best_of(task):g}: does the loss measure what the headline does, and do the "
        "example data show it?",
        "task.Task.decode",
    )


@check("freezing.Receipt")
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
    last = steps // 2 + 1  # where there are two phases, the first step of the second
    with suppress(Killed):
        trial.fit("to train until killed", witness=Witness(stop_at=last), **settings)
    words = f"to kill a run after step {last} of {steps} and resume it"
    resumed = trial.fit(words, resume=True, **settings)
    expect_same_runs(
        whole,
        resumed,
        words,
        "what the run that never stopped gives: what changes in training is kept in registered "
        "parameters and buffers",
    )


@check("task.Task.train_transform")
def workers_change_nothing(trial: TaskTrial) -> None:
    """Pictures loaded by a worker process train as those loaded here do."""
    settings: dict[str, Any] = {"schedule": "full", "epochs": 1}
    alone = trial.fit("to train without worker processes", **settings)
    helped = trial.fit("to train with a worker process", workers=1, **settings)
    _expect_near(
        alone.model.network.state_dict(),
        helped.model.network.state_dict(),
        0.0,
        "to train with and without a worker process",
        "identical weights",
    )


@check("task.Task.build_head")
def replay_changes_nothing(trial: TaskTrial) -> None:
    """Training on replayed features gives what training on pictures gives."""
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


@check("task.Task.build_loss")
def two_processes_train_alike(trial: TaskTrial) -> None:
    """Two processes train together, and as one process does where nothing is random.

    A loss over pairs is excepted from the second part: each process has its own pairs.
    """
    words = "to train in two processes"
    together = start_together(trial.task, trial.backbone, trial.folder("processes"), words)
    one, other = together.metrics
    expect(one == other, words, f"metrics {one} and {other}", "the same metrics in both")
    expect(all(map(math.isfinite, together.losses)), words, f"{together.losses}", "finite losses")
    if trains_at_random(trial.network()) or trial.task.loss_over_pairs:
        return
    alone = trial.fit("to train in one process", schedule="linear_probe", epochs=2).run.history
    for record, loss in zip(alone, together.losses, strict=True):
        expect(
            math.isclose(record["train"]["loss"], loss, rel_tol=2e-3, abs_tol=1e-4),
            "to train in one process and in two, on batches of the same size altogether",
            f"losses {record['train']['loss']:.6g} and {loss:.6g}",
            "equal ones: loss parts are means over samples",
        )


@check("model.TransferModel.save")
def a_saved_model_predicts_the_same(trial: TaskTrial) -> None:
    """A model that is saved and loaded predicts exactly what it did before."""
    model = trial.trained().model
    folder = trial.folder("saved") / "model"
    with trying("to save the model"):
        model.save(folder)
    loaded = _loaded(trial, folder)
    expect(
        loaded.task == model.task,
        "to load a saved model",
        f"the task {loaded.task}",
        repr(model.task),
        "task.Task.bind",
    )
    pictures = [trial.example.splits.train.load(i) for i in range(6)]
    before, after = (_as_json(m.predict(pictures)) for m in (model, loaded))
    for one, other in zip(before, after, strict=True):
        expect(
            one == other,
            "to save a model, load it and predict a picture",
            other,
            f"the same as before: {one}",
            "task.Task.build_head",
        )


@check("model.TransferModel.save")
def nothing_is_pickled(trial: TaskTrial) -> None:
    """Run folder and saved model hold plain data only."""
    folder = trial.trained().folder
    assert folder is not None
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        expect(
            path.suffix in PLAIN_SUFFIXES and path.read_bytes()[:2] not in PICKLED,
            "to look for pickles in a run folder",
            str(path.relative_to(folder)),
            f"files of {', '.join(sorted(PLAIN_SUFFIXES))} without code in them",
        )


def expect_frozen(trial: TaskTrial, schedule: str | Schedule) -> None:
    """Raise a fault unless a schedule leaves alone what it freezes."""
    watch = FrozenWatch()
    name = schedule if isinstance(schedule, str) else schedule.name
    words = f"to train by schedule {name!r} on backbone {trial.normalised}"
    settings: dict[str, Any] = {"backbone": trial.normalised, "schedule": schedule, "epochs": 2}
    trial.fit(words, witness=watch, **settings)
    got = f"other values in {', '.join(watch.changed[:3])}"
    expect(not watch.changed, words, got, "frozen tensors as they were")


class FrozenWatch(Witness):
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


def _loaded(trial: TaskTrial, folder: Path) -> TransferModel:
    with trying("to load the saved model", see="model.load"):
        return load(folder, task=type(trial.task))


def _as_json(predictions: list[Any]) -> list[str]:
    return [json.dumps(asdict(one)) for one in predictions]


def expect_same_runs(one: Trained, other: Trained, tried: str, expected: str) -> None:
    """Raise a fault unless two runs took the same steps and ended with the same checkpoint."""
    assert one.folder is not None and other.folder is not None
    for first, second in zip(one.losses[::-1], other.losses[::-1], strict=False):
        expect(first == second, tried, f"losses {second}, not {first}", expected)
    folders = (one.folder, other.folder)
    ends = [Checkpoint.read(f / "checkpoints" / "last.safetensors").tensors for f in folders]
    for group, tensors in ends[0].items():
        _expect_near(tensors, ends[1].get(group, {}), 0.0, tried, expected)
    lines = [(f / "metrics.jsonl").read_text(encoding="utf-8") for f in folders]
    expect(lines[0] == lines[1], tried, "other metrics", expected)


def _expect_near(
    one: Mapping[str, Tensor], other: Mapping[str, Tensor], most: float, tried: str, expected: str
) -> None:
    expect(one.keys() == other.keys(), tried, "other tensors", expected)
    for name, tensor in one.items():
        equal = torch.equal(tensor, other[name])
        if equal:
            continue
        difference = float((tensor.double() - other[name].double()).abs().max())
        got = f"{name!r} that differs by {difference:.2g}"
        expect(difference <= most, tried, got, expected)


TRAINING_CHECKS = (
    a_few_pictures_are_learned,
    frozen_stays_frozen,
    equal_runs_are_equal,
    a_killed_run_resumes_exactly,
    workers_change_nothing,
    replay_changes_nothing,
    half_precision_trains,
    a_saved_model_predicts_the_same,
    nothing_is_pickled,
    two_processes_train_alike,
)
