"""Models that have not seen the labels they judge: one for each part of the training images, trained on the others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visiongraft.config import FitConfig
from visiongraft.data.check import SampleDigests
from visiongraft.errors import ArtifactError, OptionError, name_some
from visiongraft.fitting import fit
from visiongraft.model import TransferModel, load
from visiongraft.preparation.leaving_out import settings_leaving_out
from visiongraft.training.resuming.run_folder import CONFIG

FOLDS = "folds"  # within the run folder
KEY = 12  # characters that tell trainings on other labels apart


def models_by_fold(
    folder: Path,
    config: FitConfig,
    model: TransferModel,
    digests: Sequence[SampleDigests],
    folds: int,
) -> Iterator[tuple[TransferModel, list[int]]]:
    """Train a run again without each part of its training images in turn.

    The trainings are kept in ``folds`` in the run folder, so that what was interrupted goes on, and labels that have
    not changed are judged again without training. Copies of an image are in the same part.

    Args:
        folder: The run folder.
        config: Its settings.
        model: Its model.
        digests: Those of its readable training images.
        folds: Number of parts.

    Yields:
        A model, and the positions of the training images that it has not seen.

    Raises:
        OptionError: There are fewer different images than parts, a class occurs in one part alone, or the run is
            differentially private.
    """
    if config.privacy is not None:
        raise OptionError(
            f"run {folder} is differentially private, and each further training on its images would spend its privacy "
            "budget again; leave out folds to judge the validation images by its model"
        )
    images = sorted({each.image for each in digests})
    if len(images) < folds:
        raise OptionError(
            f"folds={folds}: run {folder} has {len(images)} different training images"
        )
    order = np.random.default_rng(config.seed).permutation(len(images))
    values = settings_leaving_out(config, ())
    key = hashlib.blake2b(
        json.dumps([values, sorted(map(list, digests))], sort_keys=True, default=str).encode()
    ).hexdigest()[:KEY]
    for number, part in enumerate(np.array_split(order, folds), 1):
        unseen = {images[i] for i in part}
        out = folder / FOLDS / f"{key}-{number}-of-{folds}"
        trained = _finished(out) or _train(out, settings_leaving_out(config, unseen))
        _check_classes(model, trained, number)
        yield trained, [i for i, each in enumerate(digests) if each.image in unseen]


def _finished(out: Path) -> TransferModel | None:
    try:
        return load(out)
    except ArtifactError:  # not begun, or interrupted
        return None


def _train(out: Path, settings: dict[str, Any]) -> TransferModel:
    resume = (out / CONFIG).is_file()
    return fit(settings.pop("data"), out=out, resume=resume, callbacks=("progress",), **settings)


def _check_classes(model: TransferModel, trained: TransferModel, number: int) -> None:
    names, own = (set(m.task.metadata().get("class_names", ())) for m in (model, trained))
    if names != own:
        raise OptionError(
            f"without part {number} of the training images there is no {name_some(sorted(names - own))}; train the run "
            "with all names in the task's option class_names (--set class_names=...), or with fewer folds"
        )
