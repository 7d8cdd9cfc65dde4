"""The samples that a model is evaluated on: which they are, and whether they were in training."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from visiongraft.data.check import CheckedSamples, check_evaluated
from visiongraft.data.samples import EvaluationSplit, Samples
from visiongraft.errors import name_some, noticed
from visiongraft.inputs import IMAGES, Inputs
from visiongraft.saving.training_images import TrainingImages
from visiongraft.task import Task
from visiongraft.task_contract.checks import read_evaluation

log = logging.getLogger("visiongraft")


@dataclass(frozen=True)
class EvaluationData:
    """The readable samples of a dataset, and what results tell about them.

    Attributes:
        samples: The samples.
        facts: ``split``, ``images``, ``unreadable``, ``images_seen_in_training`` (``None`` if
            unknown), the number of seen subjects if the samples have subjects, and ``warnings``.
    """

    samples: Samples
    facts: dict[str, Any]


def prepare_evaluation(
    task: Task, data: Any, channels: int, training: TrainingImages | None = None
) -> EvaluationData:
    """Read and check the samples to evaluate a model on, and log what a user should know about them.

    Args:
        task: The task of the model.
        data: In any form that the task reads.
        channels: Number of channels of the model's images.
        training: Digests of the images that it was trained on, if known.

    Returns:
        The samples that can be read.

    Raises:
        DataError: The dataset is missing, its classes differ, or too many images are unreadable.
    """
    return prepare_samples(read_evaluation(task, data), channels, training, task.inputs)


def prepare_samples(
    found: EvaluationSplit,
    channels: int,
    training: TrainingImages | None = None,
    inputs: Inputs = IMAGES,
) -> EvaluationData:
    """Check samples to evaluate a model on; see ``prepare_evaluation``."""
    with noticed(found.warnings):
        checked = check_evaluated(found.samples, channels, inputs)
    seen, doubts = _seen_in_training(found, checked, training)
    warnings = [*found.warnings, *checked.report.warnings, *doubts]
    for line in warnings:
        log.warning("%s", line)
    facts = {
        "split": found.split,
        "images": len(checked.samples),
        "unreadable": len(checked.report.unreadable),
        **seen,
        "warnings": warnings,
    }
    return EvaluationData(checked.samples, facts)


def _seen_in_training(
    found: EvaluationSplit, checked: CheckedSamples, training: TrainingImages | None
) -> tuple[dict[str, int | None], list[str]]:
    """Count the images and subjects that were in training; return a warning if there are any."""
    samples, total = checked.samples, len(checked.samples)
    images = None if training is None else training.seen_images(samples, checked.images)
    seen: dict[str, int | None] = {
        "images_seen_in_training": None if images is None else len(images)
    }
    warnings = []
    if images:
        warnings.append(
            f"{len(images)} of {total} evaluated images were in training, so that the results do not "
            f"show how good the model is on new images: {name_some(map(samples.name, images))}"
        )
    names = {name: None for i in range(total) if (name := samples.subject(i)) is not None}
    if not names:
        return seen, warnings
    subjects = None if training is None else training.seen_subjects(list(names))
    seen[f"{found.subjects}_seen_in_training"] = None if subjects is None else len(subjects)
    if subjects:
        warnings.append(
            f"{len(subjects)} of {len(names)} evaluated {found.subjects} were in training, so that the "
            f"results do not show how good the model is on new {found.subjects}: {name_some(subjects)}"
        )
    return seen, warnings
