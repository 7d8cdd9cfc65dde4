"""Metrics of the embeddings of a dataset: verification, identification, retrieval."""

from __future__ import annotations

from typing import Any

import numpy as np

from visiongraft.errors import DataError
from visiongraft.plugins.face_embedding.evaluation.identification import Vectors, identify, retrieve
from visiongraft.plugins.face_embedding.evaluation.pairs import Pairs, all_pairs, draw_pairs
from visiongraft.plugins.face_embedding.evaluation.protocol import (
    Floats,
    RocCurve,
    accept_rates,
    best_threshold,
    verify_in_folds,
)
from visiongraft.plugins.face_embedding.evaluation.threshold import threshold_for
from visiongraft.task import Arrays

CHUNK = 100_000  # pairs in memory at a time


class FaceMetrics:
    """Collects embeddings and identities, and compares all of them at the end.

    Images are first sorted by their index, so that the results do not depend on batches and
    processes.

    Args:
        false_accept_rate: The false accept rate to choose a threshold for, in (0, 1).
    """

    def __init__(self, false_accept_rate: float = 0.01) -> None:
        self._rate = false_accept_rate
        self._embeddings: list[Vectors] = []
        self._identities: list[str] = []
        self._indices: list[int] = []
        self._pairs: list[tuple[tuple[int, int], ...]] = []

    def update(self, decoded: Arrays, targets: dict[str, Any]) -> None:
        """Add one batch.

        Args:
            decoded: ``embedding``, float (N, D), unit vectors.
            targets: The result of ``FaceEmbedding.collate``, on the CPU.
        """
        self._embeddings.append(np.asarray(decoded["embedding"], dtype=np.float32))
        self._identities += targets["identities"]
        self._indices += targets["indices"]
        self._pairs += targets["pairs"]

    def compute(self) -> dict[str, Any]:
        """Compute all results, as JSON values.

        Returns:
            Results by name; undefined ones are ``None``. ``verification_accuracy`` is 0 if there
            are no pairs to compare.

        Raises:
            DataError: No batch was added.
        """
        if not self._identities:
            raise DataError("there are no images to evaluate")
        order = np.argsort(self._indices, kind="stable")
        embeddings = np.concatenate(self._embeddings)[order]
        identities = [self._identities[i] for i in order]
        pairs = roc_pairs = listed_pairs([self._pairs[i] for i in order], identities)
        if not pairs.has_both_kinds():
            pairs, roc_pairs = draw_pairs(identities), all_pairs(identities)
        return {
            **_verification(embeddings, pairs, identities),
            **_curve(embeddings, roc_pairs, identities, self._rate),
            **identify(embeddings, identities),
            **retrieve(embeddings, identities),
            "identities": len(set(identities)),
        }


def listed_pairs(listed: list[tuple[tuple[int, int], ...]], identities: list[str]) -> Pairs:
    """Collect the listed pairs of which both images are present.

    Args:
        listed: Number and fold of the pairs that contain each image.
        identities: Name of the identity of each image.

    Returns:
        The pairs, in the order of their numbers.
    """
    members: dict[tuple[int, int], list[int]] = {}
    for position, own in enumerate(listed):
        for pair in own:
            members.setdefault(pair, []).append(position)
    complete = sorted(
        (number, fold, *both) for (number, fold), both in members.items() if len(both) == 2
    )
    table = np.array(complete, dtype=np.int64).reshape(-1, 4)
    first, second = table[:, 2], table[:, 3]
    same = np.array([identities[a] == identities[b] for a, b in zip(first, second, strict=True)])
    return Pairs(first, second, same.astype(bool), table[:, 1], listed=True)


def pair_similarities(embeddings: Vectors, pairs: Pairs) -> Floats:
    """Compute the cosine similarity of each pair, (P,) in -1..1, whatever the rounding."""
    chunks = [
        np.einsum(
            "pd,pd->p",
            embeddings[pairs.first[i : i + CHUNK]].astype(np.float64),
            embeddings[pairs.second[i : i + CHUNK]].astype(np.float64),
        )
        for i in range(0, len(pairs), CHUNK)
    ]
    found: Floats = np.concatenate(chunks).clip(-1, 1)
    return found


def _verification(embeddings: Vectors, pairs: Pairs, identities: list[str]) -> dict[str, Any]:
    counts = {
        "pairs": len(pairs),
        "pairs_listed": pairs.listed,
        "folds": len(np.unique(pairs.folds)),
        "folds_share_no_identity": pairs.folds_share_no_identity(identities),
    }
    if not pairs.has_both_kinds():
        return {
            "verification_accuracy": 0.0,
            "verification_standard_error": None,
            "threshold_at_best_accuracy": None,
            **counts,
        }
    similarities = pair_similarities(embeddings, pairs)
    best = best_threshold(similarities, pairs.same)
    found = verify_in_folds(similarities, pairs.same, pairs.folds)
    return {
        "verification_accuracy": found.accuracy,
        "verification_standard_error": found.standard_error,
        "threshold_at_best_accuracy": best if best <= 1 else None,
        **counts,
    }


def _curve(embeddings: Vectors, pairs: Pairs, identities: list[str], rate: float) -> dict[str, Any]:
    if not pairs.has_both_kinds():
        return {
            "threshold": None,
            "equal_error_rate": None,
            "roc_auc": None,
            "roc": {"far": [], "tar": []},
        }
    similarities = pair_similarities(embeddings, pairs)
    curve = RocCurve.of(similarities, pairs.same)
    codes = np.unique(np.asarray(identities, dtype=object).astype(str), return_inverse=True)[1]
    found = threshold_for(similarities, codes[pairs.first], codes[pairs.second], rate)
    return {
        "threshold": found.value,
        "threshold_false_accept_rate": found.false_accept_rate,
        "threshold_false_accept_interval": None if found.interval is None else [*found.interval],
        "threshold_true_accept_rate": found.true_accept_rate,
        "threshold_people": found.people,
        "threshold_pairs_of_people": found.pairs_of_people,
        "equal_error_rate": curve.equal_error_rate(),
        "roc_auc": curve.area(),
        **accept_rates(curve),
        "roc": curve.to_json(),
    }
