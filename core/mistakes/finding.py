"""``find_mistakes``: likely wrong labels and near-duplicates of a dataset."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visiongraft.advice.cached import cached_embeddings
from visiongraft.advice.candidates import load_candidate
from visiongraft.config import FEATURE_SETTINGS, FitConfig, settings_without
from visiongraft.data.check import CheckedSplits, check_samples
from visiongraft.errors import DataError, OptionError
from visiongraft.inputs import IMAGES
from visiongraft.mistakes.duplicates import groups_of, near_pairs
from visiongraft.mistakes.labeled import LabeledImages, any_labels
from visiongraft.mistakes.probing import check_installed, judge, judge_sets
from visiongraft.mistakes.report import Mistakes, NearDuplicate, RatedLabel
from visiongraft.mistakes.run_labels import judge_run
from visiongraft.options import check_integer
from visiongraft.preparation.arguments import completed_settings, new_settings
from visiongraft.scorers import Floats
from visiongraft.seeds import preserved, seed_everything
from visiongraft.task import Task
from visiongraft.task_contract.checks import bound, read_splits

log = logging.getLogger("visiongraft")

FOLDS = 5


def find_mistakes(data: Any, *, folds: int | None = None, **settings: Any) -> Mistakes:
    """Find labels that are likely wrong, and images that are nearly the same.

    Each image is classified by logistic regressions on frozen features that have seen neither it nor its
    near-duplicates, and confident learning compares the probabilities with the labels (Northcutt et al.,
    2021, by cleanlab: ``pip install "visiongraft[mistakes]"``). Features are cached, so that another call
    takes seconds. All labeled images at hand are looked at, those of validation too. Images may have one class or
    several.

    Other labels, such as boxes and masks, are judged by the model of a run: those of its validation images, which it
    has not been trained on. With ``folds`` the run is trained again that many times, each time without a part of its
    training images, whose labels the model then judges.

    Args:
        data: As for ``fit``; or a run folder, for the data, task and backbone of the run. For classes of images the
            backbone is used as it was before the run, since one that has been trained on wrong labels confirms them.
        folds: Number of parts, each of which is judged by what has learned from the others; ``None`` for 5, or of
            labels that a trained model judges for none, as each part then takes a training. These trainings
            are kept in ``folds`` in the run folder: what was interrupted goes on.
        settings: Settings of ``fit`` that decide on images and features: ``task``, ``task_options``,
            ``backbone``, ``weights``, ``validation``, ``size``, ``resize``, ``in_channels``, ``device``,
            ``seed``.

    Returns:
        All labels, the most doubtful first; ``print`` shows those that are likely wrong.

    Raises:
        OptionError: The task has other labels, or needs a trained model to judge them; or cleanlab is missing.
        DataError: The dataset cannot be read, or has fewer than two classes of at least two images.

    Examples:
        ``print(visiongraft.find_mistakes("flowers"))``
    """
    check_installed()
    if folds is not None:
        check_integer("folds", folds, 2)
    refused = settings_without(FEATURE_SETTINGS)
    if _is_run(data):
        config = _config_of_run(Path(data))
        judged = judge_run(Path(data), config, list(settings), folds)
        if judged is not None:
            return judged
        stored = _settings_of_run(Path(data), config)
        data, settings = stored.pop("data"), {**stored, **settings}
    given = completed_settings(find_mistakes, data, settings, without=(*refused, "learning_rate"))
    config, task, _ = new_settings(given)
    if task.inputs != IMAGES:
        raise OptionError(
            f"find_mistakes is about images; task {task.name!r} takes {task.inputs.name}"
        )
    splits = read_splits(task, data, config.held_out, config.seed)
    task = bound(task, splits.train)
    if any_labels(task, splits.train) is None:
        if task.label_judge() is not None:
            raise OptionError(
                f"labels of task {task.name!r} are judged by a trained model; train one with fit and out=RUN, and pass "
                "its folder: find_mistakes(RUN), visiongraft find-mistakes RUN"
            )
        raise OptionError(
            f"find_mistakes needs classes of images, boxes or masks; task {task.name!r} has none of these here"
        )
    checked = check_samples(
        splits.train, splits.validation, channels=config.in_channels, save=False
    )
    images = LabeledImages.of(task, checked)
    with preserved():
        seed_everything(config.seed)  # of a backbone with random weights
        features = _features(config, task, images, checked)
    images, kept, left_out = images.judged()
    rated, pairs = _rate(images, features[kept], folds or FOLDS, config.seed)
    return Mistakes(
        config.backbone,
        tuple(rated),
        tuple(pairs),
        (*splits.warnings, *checked.report.warnings, *left_out),
        images.samples,
    )


def _rate(
    images: LabeledImages, features: Floats, folds: int, seed: int
) -> tuple[list[RatedLabel], list[NearDuplicate]]:
    """Rate all labels, and describe the near-duplicates."""
    names, labels = images.names, [images.words(label) for label in images.labels]
    pairs = near_pairs(features)
    rate = judge_sets if images.several else judge
    found = rate(features, images.labels, groups_of(len(names), pairs), folds, seed)
    twins: dict[int, list[str]] = {}
    for one, other, _ in pairs:
        twins.setdefault(one, []).append(names[other])
        twins.setdefault(other, []).append(names[one])
    rated = [
        RatedLabel(
            image=names[i],
            split=images.places[i][0],
            position=images.places[i][1],
            label=labels[i],
            suggested=images.words(found.suggested[i]),
            quality=float(found.quality[i]),
            likely_wrong=bool(found.wrong[i]),
            near_duplicates=tuple(twins.get(i, ())),
        )
        for i in np.argsort(found.quality, kind="stable").tolist()
    ]
    near = [
        NearDuplicate(
            (names[one], names[other]),
            (images.places[one][0], images.places[other][0]),
            (labels[one], labels[other]),
            distance,
        )
        for one, other, distance in pairs
    ]
    return rated, sorted(near, key=lambda pair: (not pair.contradicts, pair.distance))


def _features(
    config: FitConfig, task: Task, images: LabeledImages, checked: CheckedSplits
) -> Floats:
    """Compute the embeddings of all images, or read them from the cache."""
    cuda = config.device != "cpu" and torch.cuda.is_available()
    candidate = load_candidate(
        config.backbone,
        config.weights,
        torch.device("cuda" if cuda else "cpu"),
        in_channels=config.in_channels,
        size=config.size or task.input_size,
        resize=config.resize or task.resize,
    )
    features = np.concatenate(
        [
            cached_embeddings(candidate, samples, [d.image for d in checked.digests[split]])
            for split, samples in images.samples.items()
        ]
    )
    if not np.isfinite(features).all():
        raise DataError(
            f"backbone {config.backbone!r} computes features that are not finite; its weights are "
            "damaged, or it needs another preprocessing"
        )
    return features


def _is_run(data: Any) -> bool:
    return isinstance(data, (str, Path)) and (Path(data) / "config.json").is_file()


def _config_of_run(folder: Path) -> FitConfig:
    config = FitConfig.read(folder)
    if config.data is None:
        raise OptionError(
            f"the data of run {folder} were in memory; pass them, find_mistakes(DATA)"
        )
    return config


def _settings_of_run(folder: Path, config: FitConfig) -> dict[str, Any]:
    """Return the settings of a run that decide on images and features."""
    stored = asdict(config)
    if stored["start"] is not None:  # it trained on the same labels, or others
        log.warning("run %s began with a trained model; its backbone may know the labels", folder)
        stored["backbone"] = stored["start"]
    return {name: stored[name] for name in ("data", *FEATURE_SETTINGS)}
