"""What a classifier that has not seen an image says about its label, and what follows (cleanlab)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.errors import OptionError
from visiongraft.scorers import ClassIds, Floats


@dataclass(frozen=True)
class Judged:
    """What classifiers say about labels.

    Attributes:
        probabilities: float64 (N, C), of classifiers that have not seen the image.
        suggested: int64 (N,), the most probable class; or bool (N, C), the probable ones.
        quality: float64 (N,), the probability of the given label; of several classes cleanlab's mean of these.
        wrong: bool (N,), whether the label is likely wrong.
    """

    probabilities: Floats
    suggested: NDArray[Any]
    quality: Floats
    wrong: NDArray[np.bool_]


def check_installed() -> None:
    """Refuse to begin without the libraries.

    Raises:
        OptionError: cleanlab is missing.
    """
    if find_spec("cleanlab") is None or find_spec("sklearn") is None:
        raise OptionError('find_mistakes needs cleanlab; pip install "visiongraft[mistakes]"')


def judge(
    features: Floats, labels: ClassIds, groups: NDArray[np.int64], folds: int, seed: int
) -> Judged:
    """Rate each label by logistic regressions on the other folds (confident learning, Northcutt et al., 2021).

    Args:
        features: float64 (N, D), embeddings.
        labels: int64 (N,), class ids 0..C-1; each occurs at least twice.
        groups: int64 (N,), images of one group are in one fold, since copies would confirm each other.
        folds: Number of folds.
        seed: Seed of the folds.

    Raises:
        OptionError: There are fewer groups than folds.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    probabilities = _out_of_fold(features, labels, groups, folds, seed)
    quality = get_label_quality_scores(labels, probabilities, method="self_confidence")
    wrong = find_label_issues(labels, probabilities, n_jobs=1)
    return Judged(
        probabilities,
        probabilities.argmax(axis=1),
        np.asarray(quality),
        np.asarray(wrong, dtype=np.bool_),
    )


def judge_sets(
    features: Floats,
    labels: NDArray[np.bool_],
    groups: NDArray[np.int64],
    folds: int,
    seed: int,
) -> Judged:
    """Rate the classes of each image, if it can have several (Thyagarajan et al., 2022); see ``judge``.

    Args:
        features: float64 (N, D), embeddings.
        labels: bool (N, C), the classes of each image; each class is given to some images and not to others.
        groups: As for ``judge``.
        folds: Number of folds.
        seed: Seed of the folds.
    """
    from cleanlab.multilabel_classification.filter import find_label_issues
    from cleanlab.multilabel_classification.rank import get_label_quality_scores

    probabilities = np.stack(
        [
            _out_of_fold(features, column.astype(np.int64), groups, folds, seed)[:, 1]
            for column in labels.T
        ],
        axis=1,
    )
    sets = [np.flatnonzero(row).tolist() for row in labels]
    quality = get_label_quality_scores(sets, probabilities, method="self_confidence")
    wrong = find_label_issues(sets, probabilities, n_jobs=1)
    return Judged(
        probabilities,
        probabilities >= 0.5,
        np.asarray(quality),
        np.asarray(wrong, dtype=np.bool_),
    )


def _out_of_fold(
    features: Floats, labels: ClassIds, groups: NDArray[np.int64], folds: int, seed: int
) -> Floats:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    if len(np.unique(groups)) < folds:
        raise OptionError(f"folds={folds} needs as many images that are no near-duplicates")
    found = np.zeros((len(labels), int(labels.max()) + 1))
    division = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a rough optimum ranks as well
        warnings.filterwarnings("ignore", message="The least populated class")
        for kept, held_out in division.split(features, labels, groups):
            present = np.unique(labels[kept])
            if len(present) == 1:
                found[held_out, present[0]] = 1
                continue
            probe = make_pipeline(Normalizer(), LogisticRegression(C=1.0, max_iter=300))
            probe.fit(features[kept], labels[kept])
            found[np.ix_(held_out, present)] = probe.predict_proba(features[held_out])
    return found
