"""Embeddings of images, kept among the cached features of the user."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from visiongraft.advice.candidates import Candidate, embed
from visiongraft.caching.keys import embeddings_key
from visiongraft.caching.shared import add_entry, new_folder, open_entry, shared_folder
from visiongraft.data.samples import Samples
from visiongraft.errors import VisiongraftError
from visiongraft.scorers import Floats

log = logging.getLogger("visiongraft")

NAME = "embeddings"


def cached_embeddings(candidate: Candidate, samples: Samples, digests: Sequence[str]) -> Floats:
    """Compute the embeddings of images, or read those that were computed before.

    Args:
        candidate: The backbone.
        samples: The images; their targets are not read.
        digests: Digest of each image, see ``Finding.digest``.

    Returns:
        float64 (N, D).

    Raises:
        DataError: An image cannot be read.
    """
    key = embeddings_key(candidate.backbone, digests)
    try:
        known = open_entry(shared_folder(), key, [NAME])
    except VisiongraftError:  # there is no folder for them
        known = None
    if known is not None:
        return np.asarray(known[NAME], dtype=np.float64)
    features = embed(candidate, samples).features
    about = {
        "backbone": candidate.backbone.info.name,
        "layers": ["all"],
        "images": len(samples),
        "dtype": "float64",
    }
    try:
        with new_folder(shared_folder()) as written:
            np.save(written / f"{NAME}.npy", features)
            add_entry(written, key, {NAME: features}, about)
    except (OSError, VisiongraftError) as error:
        log.info("the embeddings are not kept: %s", error)
    return features
