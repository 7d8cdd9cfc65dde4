"""Labels that are judged by the model of a run: those of its validation images, which it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from visiongraft.config import FitConfig
from visiongraft.data.samples import Samples
from visiongraft.errors import ArtifactError, OptionError
from visiongraft.inputs import IMAGES
from visiongraft.mistakes.report import Mistakes, RatedLabel
from visiongraft.model import TransferModel, load
from visiongraft.pages.parts import pillow_image
from visiongraft.task import Task
from visiongraft.task_contract.label_judge import LabelJudge
from visiongraft.task_contract.targets import describe_target, ideal_prediction
from visiongraft.training.evaluation import decode_samples
from visiongraft.training.resuming.run_samples import read_run_samples

BATCH = 8
FEWEST = 2


def judge_run(folder: Path, config: FitConfig, given: Sequence[str]) -> Mistakes | None:
    """Judge the labels of the validation images of a run by its model, if its task does that.

    Args:
        folder: The run folder.
        config: Its settings, with the data.
        given: Names of settings that the user passed, which have no meaning here.

    Returns:
        What was found; ``None`` if the task judges no labels, or the run has no model yet.

    Raises:
        OptionError: Settings were passed.
        DataError: The data cannot be read.
    """
    try:
        model = load(folder)
    except ArtifactError:  # an unfinished run still tells its data and backbone
        return None
    judge = model.task.label_judge()
    if judge is None:
        return None
    if given:
        raise OptionError(
            f"labels of task {model.task.name!r} are judged by the model of the run, as it was trained; leave out "
            f"{', '.join(given)}"
        )
    if model.task.inputs != IMAGES:
        raise OptionError(
            f"find_mistakes is about images; task {model.task.name!r} takes {model.task.inputs.name}"
        )
    checked = read_run_samples(folder, config, model.task, model.backbone_info.in_channels)
    if len(checked.validation) < FEWEST:
        raise OptionError(f"run {folder} has fewer than {FEWEST} validation images to judge")
    rated = _rate(model, checked.validation, judge)
    return Mistakes(
        f"the model of {folder}",
        rated,
        (),
        ("the training images were not looked at, as the model has seen their labels",),
        {"validation": checked.validation},
        partial(_drawn, model.task),
    )


def _drawn(task: Task, pixels: NDArray[np.uint8], target: Any) -> PillowImage.Image:
    """Draw what a target says on its image."""
    image, truth = pillow_image(pixels), ideal_prediction(task, target)
    return image if truth is None else task.draw(image, truth)


def _rate(model: TransferModel, samples: Samples, judge: LabelJudge) -> tuple[RatedLabel, ...]:
    task, network = model.task, model.network
    order: list[int] = []
    network.task = judge.task
    try:
        for decoded, targets, positions in decode_samples(network, samples, BATCH):
            judge.update(decoded, targets)
            order += positions
    finally:
        network.task = task
    found = judge.compute()
    return tuple(
        RatedLabel(
            image=samples.name(order[i]),
            split="validation",
            position=order[i],
            label=describe_target(task, samples.target(order[i])),
            suggested=found.remarks[i],
            quality=float(found.quality[i]),
            likely_wrong=bool(found.wrong[i]),
        )
        for i in np.argsort(found.quality, kind="stable").tolist()
    )
