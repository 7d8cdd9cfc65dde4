"""Labels that are judged by models that have not seen them: that of a run, and those of its folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from visiongraft.mistakes.out_of_fold import models_by_fold
from visiongraft.mistakes.report import Mistakes, RatedLabel
from visiongraft.model import TransferModel, load
from visiongraft.pages.parts import pillow_image
from visiongraft.registry.manager import plugins
from visiongraft.task import Task
from visiongraft.task_contract.label_judge import JudgedLabels, LabelJudge
from visiongraft.task_contract.targets import describe_target, ideal_prediction
from visiongraft.training.evaluation import decode_samples
from visiongraft.training.resuming.run_samples import read_run_samples

Place = tuple[str, int]  # split of an image, and position within it

BATCH = 8
FEWEST = 2
NOT_LOOKED_AT = (
    "the training images were not looked at, as the model has seen their labels; folds=5 (--folds 5) trains five "
    "more models, each for images that it has not seen"
)


def judge_run(
    folder: Path, config: FitConfig, given: Sequence[str], folds: int | None
) -> Mistakes | None:
    """Judge labels of the images of a run by models that have not seen them, if its task does that.

    Args:
        folder: The run folder.
        config: Its settings, with the data.
        given: Names of settings that the user passed, which have no meaning here.
        folds: Number of models to train so that the training images are judged, too; ``None`` to judge validation images
            by the model of the run alone.

    Returns:
        What was found; ``None`` if the task judges no labels, or the run has no model yet.

    Raises:
        OptionError: Settings were passed.
        DataError: The data cannot be read.
    """
    kind = plugins().tasks().get(config.task)
    if kind is not None and kind.label_judge is Task.label_judge:
        return None
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
    samples = {"validation": checked.validation}
    places = _update(judge, model, "validation", checked.validation, range(len(checked.validation)))
    by = f"the model of {folder}"
    left_out: tuple[str, ...] = (NOT_LOOKED_AT,)
    if folds is not None:
        samples["training"] = checked.train
        digests = checked.digests["training"]
        for trained, unseen in models_by_fold(folder, config, model, digests, folds):
            places += _update(judge, trained, "training", checked.train, unseen)
        by, left_out = f"{by} and {folds} models that were trained on the other images", ()
    return Mistakes(
        by,
        _rated(model.task, judge.compute(), samples, places),
        (),
        (*checked.report.warnings, *left_out),
        samples,
        partial(_drawn, model.task),
    )


def _drawn(task: Task, pixels: NDArray[np.uint8], target: Any) -> PillowImage.Image:
    """Draw what a target says on its image."""
    image, truth = pillow_image(pixels), ideal_prediction(task, target)
    return image if truth is None else task.draw(image, truth)


def _update(
    judge: LabelJudge, model: TransferModel, split: str, samples: Samples, chosen: Sequence[int]
) -> list[Place]:
    """Show the results of a model for some samples to a judge; return their places in the order of the judge."""
    task, network = model.task, model.network
    order: list[Place] = []
    network.task = judge.task
    try:
        for decoded, targets, positions in decode_samples(network, samples.subset(chosen), BATCH):
            judge.update(decoded, targets)
            order += [(split, chosen[i]) for i in positions]
    finally:
        network.task = task
    return order


def _rated(
    task: Task, found: JudgedLabels, samples: Mapping[str, Samples], places: Sequence[Place]
) -> tuple[RatedLabel, ...]:
    """Describe all labels, the most doubtful first."""
    return tuple(
        RatedLabel(
            image=samples[places[i][0]].name(places[i][1]),
            split=places[i][0],
            position=places[i][1],
            label=describe_target(task, samples[places[i][0]].target(places[i][1])),
            suggested=found.remarks[i],
            quality=float(found.quality[i]),
            likely_wrong=bool(found.wrong[i]),
        )
        for i in np.argsort(found.quality, kind="stable").tolist()
    )
