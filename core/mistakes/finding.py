"""``find_mistakes``: likely wrong labels and near-duplicates of a dataset."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visiongraft.advice.cached import cached_embeddings
from visiongraft.advice.candidates import load_candidate
from visiongraft.advice.sampling import labels_of, renumbered
from visiongraft.config import FEATURE_SETTINGS, FitConfig, settings_without
from visiongraft.data.check import CheckedSplits, check_samples
from visiongraft.data.report import count_and_name
from visiongraft.data.samples import Samples
from visiongraft.errors import DataError, OptionError
from visiongraft.inputs import IMAGES
from visiongraft.mistakes.duplicates import groups_of, near_pairs
from visiongraft.mistakes.probing import check_installed, judge
from visiongraft.mistakes.report import Mistakes, NearDuplicate, RatedLabel
from visiongraft.options import check_integer
from visiongraft.preparation.arguments import completed_settings, new_settings
from visiongraft.scorers import ClassIds, Floats
from visiongraft.seeds import preserved, seed_everything
from visiongraft.task import Task
from visiongraft.task_contract.checks import bound, read_splits

log = logging.getLogger("visiongraft")

FEWEST = 2  # images of a class


def find_mistakes(data: Any, *, folds: int = 5, **settings: Any) -> Mistakes:
    """Find labels that are likely wrong, and images that are nearly the same.

    Each image is classified by logistic regressions on frozen features that have seen neither it nor its
    near-duplicates, and confident learning compares the probabilities with the labels (Northcutt et al.,
    2021, by cleanlab: ``pip install "visiongraft[mistakes]"``). Features are cached, so that another call
    takes seconds. All labeled images at hand are looked at, those of validation too.

    Args:
        data: As for ``fit``; or a run folder, for the data, task and backbone of the run. The backbone is
            used as it was before the run, since one that has been trained on wrong labels confirms them.
        folds: Number of parts, each of which is classified by probes on the others.
        settings: Settings of ``fit`` that decide on images and features: ``task``, ``task_options``,
            ``backbone``, ``weights``, ``validation``, ``size``, ``resize``, ``in_channels``, ``device``,
            ``seed``.

    Returns:
        All labels, the most doubtful first; ``print`` shows those that are likely wrong.

    Raises:
        OptionError: The task has not one class per image, or cleanlab is missing.
        DataError: The dataset cannot be read, or has fewer than two classes of at least two images.

    Examples:
        ``print(visiongraft.find_mistakes("flowers"))``
    """
    check_installed()
    check_integer("folds", folds, 2)
    refused = settings_without(FEATURE_SETTINGS)
    if _is_run(data):
        stored = _settings_of_run(Path(data))
        data, settings = stored.pop("data"), {**stored, **settings}
    given = completed_settings(find_mistakes, data, settings, without=(*refused, "learning_rate"))
    config, task, _ = new_settings(given)
    if task.inputs != IMAGES:
        raise OptionError(
            f"find_mistakes is about images; task {task.name!r} takes {task.inputs.name}"
        )
    splits = read_splits(task, data, config.held_out, config.seed)
    task = bound(task, splits.train)
    if labels_of(task, splits.train) is None:
        raise OptionError(
            f"find_mistakes needs one class per image, which task {task.name!r} does not have here"
        )
    checked = check_samples(
        splits.train, splits.validation, channels=config.in_channels, save=False
    )
    images = _Images.of(task, checked)
    with preserved():
        seed_everything(config.seed)  # of a backbone with random weights
        features = _features(config, task, images, checked)
    kept, left_out = images.of_common_classes()
    images = images.subset(kept)
    rated, pairs = _rate(images, features[kept], folds, config.seed)
    return Mistakes(
        config.backbone,
        tuple(rated),
        tuple(pairs),
        (*splits.warnings, *checked.report.warnings, *left_out),
        images.samples,
    )


@dataclass(frozen=True)
class _Images:
    """Labeled images of both splits.

    Attributes:
        samples: The samples of each split.
        places: Split of each image and position within it.
        labels: int64 (N,), class ids.
        class_names: Names of the classes by id.
    """

    samples: dict[str, Samples]
    places: list[tuple[str, int]]
    labels: ClassIds
    class_names: list[str]

    @classmethod
    def of(cls, task: Task, checked: CheckedSplits) -> _Images:
        samples = {"training": checked.train, "validation": checked.validation}
        labels = [found for own in samples.values() if (found := labels_of(task, own)) is not None]
        places = [(split, i) for split, own in samples.items() for i in range(len(own))]
        joined = np.concatenate(labels)
        known = task.metadata().get("class_names") or range(int(joined.max()) + 1)
        return cls(samples, places, joined, list(map(str, known)))

    @property
    def names(self) -> list[str]:
        """Name of each image."""
        return [self.samples[split].name(position) for split, position in self.places]

    def of_common_classes(self) -> tuple[NDArray[np.intp], list[str]]:
        """Return the images whose class has others, and what is left out.

        Raises:
            DataError: There are fewer than two such classes.
        """
        counts = np.bincount(self.labels)
        single = tuple(self.class_names[i] for i in np.flatnonzero(counts == 1))
        kept = np.flatnonzero(counts[self.labels] >= FEWEST)
        if len(np.unique(self.labels[kept])) < 2:
            raise DataError("find_mistakes needs at least two classes of at least two images")
        what = "classes have a single image, which is not looked at"
        return kept, [count_and_name(what, single)] if single else []

    def subset(self, kept: NDArray[np.intp]) -> _Images:
        """Return some of the images, with the classes that these have."""
        ids = np.unique(self.labels[kept])
        return replace(
            self,
            places=[self.places[i] for i in kept],
            labels=renumbered(self.labels[kept]),
            class_names=[self.class_names[i] for i in ids],
        )


def _rate(
    images: _Images, features: Floats, folds: int, seed: int
) -> tuple[list[RatedLabel], list[NearDuplicate]]:
    """Rate all labels, and describe the near-duplicates."""
    names, labels = images.names, [images.class_names[i] for i in images.labels]
    pairs = near_pairs(features)
    found = judge(features, images.labels, groups_of(len(names), pairs), folds, seed)
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
            suggested=images.class_names[int(found.probabilities[i].argmax())],
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


def _features(config: FitConfig, task: Task, images: _Images, checked: CheckedSplits) -> Floats:
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


def _settings_of_run(folder: Path) -> dict[str, Any]:
    """Return the settings of a run that decide on images and features."""
    stored = asdict(FitConfig.read(folder))
    if stored["data"] is None:
        raise OptionError(
            f"the data of run {folder} were in memory; pass them, find_mistakes(DATA)"
        )
    if stored["start"] is not None:  # it trained on the same labels, or others
        log.warning("run %s began with a trained model; its backbone may know the labels", folder)
        stored["backbone"] = stored["start"]
    return {name: stored[name] for name in ("data", *FEATURE_SETTINGS)}
