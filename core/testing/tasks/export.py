"""Checks of a task's exported file; the model is trained and exported once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.model import load
from visiongraft.testing.report import Checks, expect, trying
from visiongraft.testing.tasks.forward import expect_agreement
from visiongraft.testing.tasks.trial import TaskTrial
from visiongraft.verification.engine import Pair
from visiongraft.verification.pytorch import TorchReference

check = Checks(TaskTrial.of)

BATCHES = (1, 2, 5)
OTHER_SEED = 1  # of images that neither training nor the exporter's own proof has seen


@check("task.Task.decode")
def the_exported_file_agrees(trial: TaskTrial) -> None:
    """The exporter proves its file, which agrees with PyTorch on new images and batch sizes too."""
    exported = trial.exported()
    graph = trial.trained().model.inference_graph()
    expect(
        exported.path.is_file() and bool(exported.certificate.comparisons),
        "to export the trained model",
        "no file, or a certificate without comparisons",
        "a file and its certificate",
        "exporter.Exporter.export",
    )
    pair = Pair(
        TorchReference(graph), exported.opened.run, trial.example.task.export_support().compare
    )
    for images in _stacks(trial):
        words = f"to run the exported file on {len(images)} new images of {images.shape[1:3]}"
        with trying(words):
            outcome = pair.compare(images)
        expect_agreement(
            trial.example.task,
            outcome.reference,
            outcome.candidate,
            words,
            "the results of PyTorch, for any batch size",
        )


@check("task.Task.metadata")
def class_names_survive_saving_and_export(trial: TaskTrial) -> None:
    """Metadata and predicted classes are the same after training, loading and export."""
    trained, exported = trial.trained(), trial.exported()
    assert trained.folder is not None
    with trying("to load the run's model", see="model.load"):
        loaded = load(trained.folder, task=type(trial.task))
    results = trained.model.facts["metrics"]
    with trying("to pass the results to the bound task", see="task.Task.after_training"):
        bound = _as_json(trial.example.task.after_training(results).metadata())
    stages = {
        "the trained model": trained.model.task.metadata(),
        "the loaded model": loaded.task.metadata(),
        "the exported file": exported.opened.metadata.get("task_metadata"),
    }
    for stage, metadata in stages.items():
        expect(
            _as_json(metadata) == bound,
            f"to read the metadata of {stage}",
            _as_json(metadata),
            f"the metadata of the bound task after training: {bound}",
        )
    images = [trial.example.splits.train.load(i) for i in range(6)]
    with trying("to predict with the trained, the loaded and the exported model"):
        found = [m.predict(images) for m in (trained.model, loaded, exported.opened)]
    for position, (one, other, third) in enumerate(zip(*found, strict=True)):
        words = f"to predict image {position} with the trained, the loaded and the exported model"
        kinds = [one, other, third] if is_dataclass(third) else [one, other]
        values = [_without_floats(asdict(kind)) for kind in kinds]
        expect(
            all(value == values[0] for value in values),
            words,
            values,
            "equal predictions",
            "task.Task.predictions",
        )


def _stacks(trial: TaskTrial) -> Iterator[NDArray[np.uint8]]:
    """Crop new images to a common size per batch, one batch for each batch size."""
    samples = trial.read(12, OTHER_SEED).splits.train
    position = 0
    for count in BATCHES:
        some = [samples.load((position + i) % len(samples)) for i in range(count)]
        position += count
        height, width = (min(image.shape[axis] for image in some) for axis in (0, 1))
        yield np.stack([image[:height, :width] for image in some])


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _without_floats(value: Any) -> Any:
    """Drop the values that depend on rounding."""
    if isinstance(value, dict):
        return {key: _without_floats(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_floats(each) for each in value]
    return None if isinstance(value, float) else value


EXPORT_CHECKS = tuple(check)
