"""Checks of a task's saved model: it predicts the same, and consists of plain data."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from visiongraft.model import load
from visiongraft.testing.pickles import pickle_in
from visiongraft.testing.report import Checks, expect, trying
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
    expect(
        loaded.task == model.task,
        "to load a saved model",
        f"the task {loaded.task}",
        repr(model.task),
        "task.Task.bind",
    )
    before, after = (as_texts(m.predict(some_images(trial))) for m in (model, loaded))
    for one, other in zip(before, after, strict=True):
        expect(
            one == other,
            "to save a model, load it and predict an image",
            other,
            f"the same as before: {one}",
            "task.Task.build_head",
        )


@check("model.TransferModel.save")
def nothing_is_pickled(trial: TaskTrial) -> None:
    """Run folder and saved model contain plain data only, no code."""
    folder = trial.trained().folder
    assert folder is not None
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name, words = path.relative_to(folder), "to look for pickles in a run folder"
        expected = f"files of {', '.join(sorted(PLAIN_SUFFIXES))} without code in them"
        expect(path.suffix in PLAIN_SUFFIXES, words, str(name), expected)
        found = pickle_in(path)
        expect(not found, words, f"{name} with {found}", expected)


def some_images(trial: TaskTrial) -> list[Any]:
    """Load a few images to predict."""
    samples = trial.example.splits.train
    return [samples.load(i, trial.channels) for i in range(TOGETHER)]


def as_texts(predictions: list[Any]) -> list[str]:
    """Convert predictions to JSON, to compare them."""
    return [json.dumps(asdict(one)) for one in predictions]


SAVING_CHECKS = tuple(check)
