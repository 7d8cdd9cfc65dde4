"""Find images with captions, in a table or in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from visiongraft.data.decode import printable
from visiongraft.data.images import DatasetSamples
from visiongraft.data.manifest import (
    MANIFEST_SUFFIXES,
    PATH_COLUMNS,
    cell_text,
    find_base,
    find_column,
    missing_files,
    read_rows,
    split_of,
)
from visiongraft.data.names import find_listed
from visiongraft.data.samples import EvaluationSplit, FileSamples, Samples, Splits, TargetSamples
from visiongraft.data.splits import (
    as_pair,
    evaluation_split,
    join_pair,
    name_evaluated,
    split_at_random,
    training_and_validation,
)
from visiongraft.errors import DataError
from visiongraft.plugins.retrieval.encoders import (
    Mark,
    encoder_named,
    known_encoder,
    known_network,
    trainable_network,
)
from visiongraft.text_encoders import TextEncoder, unit_vectors

CAPTION_COLUMNS = ("caption", "captions", "text", "description", "sentence", "title")
HINT = "pass a table (.csv, .tsv, .parquet) with the columns path and caption, or (image, caption) pairs"

Vectors = NDArray[np.float32]
Tokenize = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class Captions:
    """The captions of one image.

    Attributes:
        ids: int64 (k,), equal for equal captions.
        vectors: float32 (k, dim), their vectors by the text encoder, of length 1; not numbers for one that is
            trained, whose vectors change.
        tokens: int32 (k, length), token ids for a text encoder that is trained; ``None`` for another one.
    """

    ids: NDArray[np.int64]
    vectors: Vectors
    tokens: NDArray[np.int32] | None = None


@dataclass(frozen=True)
class CaptionedSamples(TargetSamples):
    """Images with captions.

    Attributes:
        base: The images.
        targets: The captions of each image.
    """

    targets: tuple[Captions, ...]

    @property
    def dim(self) -> int:
        """Length of a caption's vector."""
        return int(self.targets[0].vectors.shape[1])


def read_splits(
    data: Any, text: str, validation: float, seed: int, train_text: bool = False
) -> Splits:
    """Read images with captions to train on.

    Args:
        data: A table, pairs in memory, or a pair (training, validation) of these.
        text: Name of the text encoder.
        validation: Fraction of the images to hold out if there is no validation split.
        seed: Seed of that split.
        train_text: Whether captions have token ids in place of vectors, for an encoder that is trained.

    Raises:
        DataError: There are no images to train on, or one has no caption.
        OptionError: The text encoder cannot be trained.
    """
    tokenize = trainable_network(text).tokenize if train_text else None
    splits, warnings = _read(data)
    if "train" not in splits:
        raise DataError(f"the dataset has no training images, only {' and '.join(splits)}")
    train, held_out, origin = training_and_validation(
        splits,
        lambda all_of: split_at_random(len(all_of), validation, seed),
        f"{validation:.0%} of the training images, seed {seed}",
    )
    encoder = encoder_named(text)
    if tokenize is None:
        samples, validation_samples = _encoded([train, held_out], encoder)
    else:
        dim = encoder.info.dim
        samples, validation_samples = (_tokenized(p, dim, tokenize) for p in (train, held_out))
    facts = {
        "captions": sum(len(train.target(i)) for i in range(len(train))),
        "validation from": origin,
    }
    return Splits(samples, validation_samples, facts, warnings)


def read_evaluation(data: Any, text: str, mark: Mark, trained: int = 0) -> EvaluationSplit:
    """Read images with captions to evaluate on; see ``read_splits``.

    Args:
        data: As there.
        text: Name of the text encoder.
        mark: What tells it from others, see ``mark_of``; empty if nothing was trained.
        trained: Length of its vectors if it is trained: captions then have token ids, and no vectors.
    """
    splits, warnings = _read(data)
    split = "validation" if as_pair(data) else evaluation_split(splits)
    if trained:
        samples = _tokenized(splits[split], trained, known_network(text, mark).tokenize)
    else:
        (samples,) = _encoded([splits[split]], known_encoder(text, mark))
    return EvaluationSplit(samples, name_evaluated(split), warnings)


def is_captioned(data: Any) -> bool:
    """Check whether data is a table with a column of captions, without reading its images."""
    if not isinstance(data, (str, Path)) or Path(data).suffix.lower() not in MANIFEST_SUFFIXES:
        return False
    try:
        (_, row), *_ = read_rows(Path(data))
        find_column("", row, PATH_COLUMNS)
        return bool(find_column("", row, CAPTION_COLUMNS, 2))
    except DataError:
        return False


def _read(data: Any) -> tuple[dict[str, Samples], tuple[str, ...]]:
    """Return samples whose targets are tuples of captions, by split, and warnings."""
    pair = as_pair(data)
    if pair is not None:
        (first, some), (second, more) = map(_read, pair)
        return join_pair(first, second), (*some, *more)
    if not isinstance(data, (str, Path)):
        return {"train": DatasetSamples.of(data, _as_captions)}, ()
    path = Path(data)
    if path.suffix.lower() not in MANIFEST_SUFFIXES or path.is_dir():
        raise DataError(f"{printable(path)} is not a table; {HINT}")
    return _read_table(path)


def _as_captions(target: Any) -> tuple[str, ...]:
    captions = (target,) if isinstance(target, str) else target
    sound = isinstance(captions, Sequence) and len(captions) > 0
    if not sound or not all(isinstance(each, str) and each.strip() for each in captions):
        raise DataError(f"{target!r} is neither a caption nor several captions; {HINT}")
    return tuple(dict.fromkeys(each.strip() for each in captions))


def _read_table(path: Path) -> tuple[dict[str, Samples], tuple[str, ...]]:
    """Read a table with one row per caption; several rows may have the same image."""
    shown, rows = printable(path), read_rows(path)
    first: Mapping[str, Any] = rows[0][1]
    path_column = find_column(shown, first, PATH_COLUMNS)
    caption_column = find_column(shown, first, CAPTION_COLUMNS, 2)
    base = find_base(path, [cell_text(row[path_column]) for _, row in rows])
    captions: dict[tuple[str, str], list[str]] = {}
    for number, row in rows:
        where = f"{shown}, row {number}"
        name, caption = cell_text(row[path_column]), cell_text(row[caption_column])
        if not name or not caption:
            empty = caption_column if name else path_column
            raise DataError(f"{where}: {empty} is empty; fill it in or remove the row")
        file = os.path.normpath(find_listed(base, name) or base / name)
        captions.setdefault((split_of(where, row.get("split")), file), []).append(caption)
    warnings = tuple(missing_files(shown, base, [file for _, file in captions]))
    found: dict[str, Samples] = {}
    for split in dict.fromkeys(split for split, _ in captions):
        own = {file: texts for (part, file), texts in captions.items() if part == split}
        targets = [tuple(dict.fromkeys(texts)) for texts in own.values()]
        found[split] = FileSamples([Path(file) for file in own], targets)
    return found, warnings


def _encoded(parts: Sequence[Samples], encoder: TextEncoder) -> list[CaptionedSamples]:
    """Encode the captions of several samples, each once."""
    different = _different(parts)
    vectors = unit_vectors(encoder, different).astype(np.float32)
    return [_captioned(part, different, vectors, None) for part in parts]


def _tokenized(part: Samples, dim: int, tokenize: Tokenize) -> CaptionedSamples:
    """Tokenize captions, whose vectors the network computes that is trained."""
    different = _different([part])
    unknown = np.full((len(different), dim), np.nan, np.float32)
    return _captioned(part, different, unknown, tokenize(different).numpy().astype(np.int32))


def _different(parts: Sequence[Samples]) -> list[str]:
    return list(
        dict.fromkeys(t for part in parts for i in range(len(part)) for t in part.target(i))
    )


def _captioned(
    part: Samples, different: Sequence[str], vectors: Vectors, tokens: NDArray[np.int32] | None
) -> CaptionedSamples:
    """Give samples the vectors and tokens of their captions, which are rows of all different ones."""
    rows = {text: row for row, text in enumerate(different)}
    targets = []
    for i in range(len(part)):
        texts = part.target(i)
        own = [rows[text] for text in texts]
        ids = np.array([_id_of(text) for text in texts])
        targets.append(Captions(ids, vectors[own], None if tokens is None else tokens[own]))
    return CaptionedSamples(part, tuple(targets))


def _id_of(text: str) -> int:
    """Return a number that is equal for equal captions, in every dataset."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
