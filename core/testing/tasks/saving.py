"""Checks of a task's saved model: it predicts the same, and consists of plain data."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from visiongraft.model import load
from visiongraft.testing.pickles import pickle_in
from visiongraft.testing.report import Attempt, Checks, trying
from visiongraft.testing.tasks.trial import TOGETHER, TaskTrial

check = Checks(TaskTrial.of)

PLAIN_SUFFIXES = {".json", ".jsonl", ".safetensors", ".md", ".log", ".png"}


@check("model.TransferModel.save")
def a_saved_model_predicts_the_same(trial: TaskTrial) -> None:
    """A model predicts exactly the same after saving and loading."""
    model = trial.trained().model
    folder = trial.folder("saved") / "model"
    with trying("to save the model"):
        model.save(folder)
    with trying("to load the saved model", see="model.load"):
        loaded = load(folder, task=type(trial.task))
    loading = Attempt("to load a saved model", repr(model.task), "task.Task.bind")
    loading.expect(loaded.task == model.task, f"the task {loaded.task}")
    predicting = Attempt(
        "to save a model, load it and predict an image", see="task.Task.build_head"
    )
    before, after = (as_texts(m.predict(some_images(trial))) for m in (model, loaded))
    for one, other in zip(before, after, strict=True):
        predicting.expect(one == other, other, f"the same as before: {one}")


@check("model.TransferModel.save")
def nothing_is_pickled(trial: TaskTrial) -> None:
    """Run folder and saved model contain plain data only, no code."""
    folder = trial.trained().folder
    expected = f"files of {', '.join(sorted(PLAIN_SUFFIXES))} without code in them"
    search = Attempt("to look for pickles in a run folder", expected)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name, found = path.relative_to(folder), pickle_in(path)
        search.expect(path.suffix in PLAIN_SUFFIXES, name)
        search.expect(not found, f"{name} with {found}")


def some_images(trial: TaskTrial) -> list[Any]:
    """Load a few samples to predict."""
    samples = trial.samples()
    return [samples.load(i, trial.channels) for i in range(TOGETHER)]


def as_texts(predictions: list[Any]) -> list[str]:
    """Convert predictions to JSON, to compare them."""
    return [json.dumps(asdict(one)) for one in predictions]


SAVING_CHECKS = tuple(check)
