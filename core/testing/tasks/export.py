"""Checks of a task's exported file; the model is trained and exported once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.lookup.exported import ExportedModel
from visiongraft.model import TransferModel, load
from visiongraft.testing.report import Attempt, Checks, expect, trying
from visiongraft.testing.tasks.forward import expect_agreement
from visiongraft.testing.tasks.trial import TaskTrial, offered_extras
from visiongraft.verification.engine import Pair
from visiongraft.verification.pytorch import TorchReference

check = Checks(TaskTrial.of)

BATCHES = (1, 2, 5)
OTHER_SEED = 1  # of images that neither training nor the exporter's own proof has seen


@check("task.Task.decode")
def the_exported_file_agrees(trial: TaskTrial) -> None:
    """The exporter proves its file, which agrees with PyTorch on new images and batch sizes too."""
    exported = trial.exported()
    export = Attempt(
        "to export the trained model", "a file and its certificate", "exporter.Exporter.export"
    )
    proved = exported.path.is_file() and bool(exported.certificate.comparisons)
    export.expect(proved, "no file, or a certificate without comparisons")
    model, expected = trial.trained().model, "the results of PyTorch, for any batch size"
    for images in _stacks(trial):
        inputs = trial.task.inputs
        size = inputs.size(images.shape)
        words = f"to run the exported file on {len(images)} new {inputs.name} of {size}"
        extras = offered_extras(model.network)
        expect_same_results(model, exported.opened, images, words, expected, extras)


@check("task.Task.metadata")
def class_names_survive_saving_and_export(trial: TaskTrial) -> None:
    """Metadata and predicted classes are the same after training, loading and export."""
    trained, exported = trial.trained(), trial.exported()
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
        expected = f"the metadata of the bound task after training: {bound}"
        found = _as_json(metadata)
        expect(found == bound, f"to read the metadata of {stage}", found, expected)
    images = [trial.samples().load(i) for i in range(6)]
    with trying("to predict with the trained, the loaded and the exported model"):
        predicted = [m.predict(images) for m in (trained.model, loaded, exported.opened)]
    for position, (one, other, third) in enumerate(zip(*predicted, strict=True)):
        words = f"to predict image {position} with the trained, the loaded and the exported model"
        plain = third if isinstance(third, dict) else asdict(third)
        values = [_without_floats(each) for each in (asdict(one), asdict(other), plain)]
        equal = values[0] == values[1] and _without_arrays(values[0], plain) == _without_arrays(
            values[2], plain
        )
        expect(equal, words, values, "equal predictions", "task.Task.predictions")


def expect_same_results(
    model: TransferModel,
    opened: ExportedModel,
    images: NDArray[Any],
    tried: str,
    expected: str,
    extras: tuple[str, ...] = (),
) -> None:
    """Raise a fault unless an exported file has the model's results for a batch of images."""
    compare = model.task.export_support().compare
    reference = TorchReference(model.inference_graph(extras))
    with trying(tried):
        pair = Pair(reference, opened.run, compare, extras=extras, inputs=model.task.inputs)
        outcome = pair.compare(images)
    expect_agreement(model.task, outcome.reference, outcome.candidate, tried, expected, extras)


def _stacks(trial: TaskTrial) -> Iterator[NDArray[Any]]:
    """Crop new images to a common size per batch, one batch for each batch size."""
    samples = trial.samples(trial.read(12, OTHER_SEED))
    position = 0
    for count in BATCHES:
        some = [samples.load((position + i) % len(samples)) for i in range(count)]
        position += count
        inputs = trial.task.inputs
        height, width = map(min, zip(*(inputs.size((1, *x.shape)) for x in some), strict=True))
        yield np.stack([inputs.cropped(image, height, width) for image in some])


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _without_floats(value: Any) -> Any:
    """Drop the values that depend on rounding."""
    if isinstance(value, dict):
        return {key: _without_floats(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_floats(each) for each in value]
    return None if isinstance(value, float) else value


def _without_arrays(value: Any, exported: Any) -> Any:
    """Drop what the exported file predicts as arrays, since the runtime does not know its task."""
    if not isinstance(exported, dict) or not isinstance(value, dict):
        return value
    if any(isinstance(each, np.ndarray) for each in exported.values()):
        return None
    return {key: _without_arrays(each, exported.get(key)) for key, each in value.items()}


EXPORT_CHECKS = tuple(check)
