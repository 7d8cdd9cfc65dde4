"""Quality of embeddings over a whole set: verification, identification, retrieval."""

from __future__ import annotations

from typing import Any

import numpy as np

from visiongraft.errors import DataError
from visiongraft.plugins.face_embedding.evaluation.identification import Vectors, identify, retrieve
from visiongraft.plugins.face_embedding.evaluation.pairs import Pairs, all_pairs, draw_pairs
from visiongraft.plugins.face_embedding.evaluation.protocol import (
    Curve,
    Floats,
    at_rates,
    best_threshold,
    verify_in_folds,
)
from visiongraft.task import Arrays

CHUNK = 100_000  # pairs whose embeddings are in memory at a time


class FaceMetrics:
    """Keeps embeddings and identities, and compares them when all are there.

    Images are put in the order of their numbers first, so that results depend on the images
    alone, not on batches or processes.
    """

    def __init__(self) -> None:
        self._embeddings: list[Vectors] = []
        self._identities: list[str] = []
        self._numbers: list[int] = []
        self._pairs: list[tuple[tuple[int, int], ...]] = []

    def update(self, decoded: Arrays, targets: dict[str, Any]) -> None:
        """Take one batch in.

        Args:
            decoded: ``embedding``, float (N, D), unit vectors.
            targets: What ``FaceEmbedding.collate`` made, on the CPU.
        """
        self._embeddings.append(np.asarray(decoded["embedding"], dtype=np.float32))
        self._identities += targets["identities"]
        self._numbers += targets["numbers"]
        self._pairs += targets["pairs"]

    def compute(self) -> dict[str, Any]:
        """Give all results so far, as JSON values.

        Returns:
            Results by name; those that cannot be known are ``None``. ``verification_accuracy`` is 0
            if there is no pair to compare.

        Raises:
            DataError: No batch was taken in.
        """
        if not self._identities:
            raise DataError("there are no images to measure")
        order = np.argsort(self._numbers, kind="stable")
        embeddings = np.concatenate(self._embeddings)[order]
        identities = [self._identities[i] for i in order]
        pairs = given_pairs([self._pairs[i] for i in order], identities)
        given = pairs.balanced()
        if not given:
            pairs = draw_pairs(identities)
        curve = pairs if given else all_pairs(identities)
        return {
            **_verification(embeddings, pairs, identities),
            **_curve(embeddings, curve),
            **identify(embeddings, identities),
            **retrieve(embeddings, identities),
            "identities": len(set(identities)),
        }


def given_pairs(listed: list[tuple[tuple[int, int], ...]], identities: list[str]) -> Pairs:
    """Put the listed pairs together of which both images are there.

    Args:
        listed: Number and fold of the pairs that each image is in.
        identities: Name of the identity of each image.

    Returns:
        The pairs, in the order of their numbers.
    """
    halves: dict[tuple[int, int], list[int]] = {}
    for position, own in enumerate(listed):
        for pair in own:
            halves.setdefault(pair, []).append(position)
    whole = sorted(
        (number, fold, *both) for (number, fold), both in halves.items() if len(both) == 2
    )
    table = np.array(whole, dtype=np.int64).reshape(-1, 4)
    first, second = table[:, 2], table[:, 3]
    same = np.array([identities[a] == identities[b] for a, b in zip(first, second, strict=True)])
    return Pairs(first, second, same.astype(bool), table[:, 1], given=True)


def similarities_of(embeddings: Vectors, pairs: Pairs) -> Floats:
    """Compute the cosine similarity of each pair; (P,) in -1..1."""
    parts = [
        np.einsum(
            "pd,pd->p",
            embeddings[pairs.first[i : i + CHUNK]].astype(np.float64),
            embeddings[pairs.second[i : i + CHUNK]].astype(np.float64),
        )
        for i in range(0, len(pairs), CHUNK)
    ]
    found: Floats = np.concatenate(parts)
    return found


def _verification(embeddings: Vectors, pairs: Pairs, identities: list[str]) -> dict[str, Any]:
    counted = {
        "pairs": len(pairs),
        "pairs_given": pairs.given,
        "folds": len(np.unique(pairs.folds)),
        "folds_share_no_identity": pairs.folds_share_no_identity(identities),
    }
    if not pairs.balanced():
        return {
            "verification_accuracy": 0.0,
            "verification_standard_error": None,
            "threshold": None,
            **counted,
        }
    similarities = similarities_of(embeddings, pairs)
    found = verify_in_folds(similarities, pairs.same, pairs.folds)
    return {
        "verification_accuracy": found.accuracy,
        "verification_standard_error": found.standard_error,
        "threshold": best_threshold(similarities, pairs.same),
        **counted,
    }


def _curve(embeddings: Vectors, pairs: Pairs) -> dict[str, Any]:
    if not pairs.balanced():
        return {"equal_error_rate": None, "roc_auc": None, "roc": {"far": [], "tar": []}}
    curve = Curve.of(similarities_of(embeddings, pairs), pairs.same)
    return {
        "equal_error_rate": curve.equal_error_rate(),
        "roc_auc": curve.area(),
        **at_rates(curve),
        "roc": curve.to_json(),
    }
