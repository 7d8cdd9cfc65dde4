"""Labeled images for classifiers of texts: read, checked and embedded once."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visiongraft.advice.candidates import Candidate, embed
from visiongraft.advice.sampling import labels_of
from visiongraft.backbone import Backbone
from visiongraft.data.check import check_samples
from visiongraft.data.samples import Samples
from visiongraft.errors import DataError, OptionError
from visiongraft.inputs import IMAGES
from visiongraft.saving.training_images import TrainingImages
from visiongraft.task import Task
from visiongraft.task_contract.checks import read_splits

log = logging.getLogger("visiongraft")


@dataclass(frozen=True)
class LabeledImages:
    """The embeddings of labeled images.

    Attributes:
        features: float64 (N, D).
        labels: int64 (N,), class ids.
        validation: The validation samples of the dataset, which are not among them.
        facts: About the dataset, for the model card.
        digests: Of the images.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    validation: Samples
    facts: dict[str, Any]
    digests: TrainingImages


def embed_labeled(
    task: Task, backbone: Backbone, data: Any, validation: float, seed: int
) -> LabeledImages:
    """Read the training images of a dataset, and compute their embeddings.

    Args:
        task: Knows the class names.
        backbone: In evaluation mode.
        data: As for ``fit``.
        validation: Fraction of images to hold out if there is no validation split.
        seed: Seed of that split.

    Raises:
        DataError: The dataset cannot be read, or has another class or several classes per image.
    """
    if task.inputs != IMAGES:
        raise OptionError(f"data= takes labeled images, which task {task.name!r} does not read")
    splits = read_splits(task, data, validation, seed)
    checked = check_samples(
        splits.train, splits.validation, channels=backbone.info.in_channels, inputs=task.inputs
    )
    for line in (*splits.warnings, *checked.report.warnings):
        log.warning("%s", line)
    labels = labels_of(task, checked.train)
    if labels is None:
        raise DataError("data= needs images with one class each")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    candidate = Candidate(backbone.info.name, backbone.to(device), None, device)
    features = embed(candidate, checked.train).features
    backbone.to("cpu")
    if not np.isfinite(features).all():
        raise DataError(
            f"backbone {backbone.info.name!r} computes embeddings that are not finite for some images"
        )
    digests = TrainingImages.of(checked.train, [d.image for d in checked.digests["training"]])
    facts = {"images": len(labels), **splits.facts}
    return LabeledImages(features, labels, checked.validation, facts, digests)
