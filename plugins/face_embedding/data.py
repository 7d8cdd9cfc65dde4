"""Build training and validation samples that share no identity from a dataset of identities."""

from __future__ import annotations

from typing import Any

from visiongraft.data.labels import similar_names
from visiongraft.data.samples import EvaluationSplit, Splits
from visiongraft.data.splits import evaluation_split, name_evaluated, training_and_validation
from visiongraft.errors import DataError, OptionError, name_some, noticed
from visiongraft.plugins.face_embedding.evaluation.threshold import people_needed
from visiongraft.plugins.face_embedding.faces import Face, FaceSamples
from visiongraft.plugins.face_embedding.formats.reading import (
    IdentityDataset,
    IdentitySplit,
    find_dataset,
)
from visiongraft.seeds import mix_seed

SHOWN = 5


def read_splits(
    data: Any,
    *,
    align: bool = True,
    validation: float = 0.2,
    seed: int = 0,
    false_accept_rate: float | None = None,
) -> Splits:
    """Read a dataset for training.

    Args:
        data: See ``find_dataset``.
        align: Whether to align images with landmarks.
        validation: Fraction of the identities to hold out if the dataset has no validation split,
            in (0, 1).
        seed: Seed of that split.
        false_accept_rate: The rate that a threshold will be chosen for, if any.

    Returns:
        Training and validation samples without a common identity.

    Raises:
        DataError: Training and validation share identities, or have too few of them.
    """
    source = find_dataset(data, align)
    with noticed(source.warnings):
        return _make_splits(source, validation, seed, false_accept_rate)


def _make_splits(
    source: IdentityDataset, validation: float, seed: int, rate: float | None
) -> Splits:
    if "train" not in source.splits:
        raise DataError(f"the dataset has no training images, only {' and '.join(source.splits)}")
    samples = _samples(source)
    train, validation_set, origin = training_and_validation(
        samples,
        lambda all_of: _split_off_validation(all_of, validation, seed),
        f"{validation:.0%} of the identities, seed {seed}",
    )
    refuse_shared(train, validation_set)
    check_trainable(train)
    _check_comparable(validation_set, "the validation split")
    facts = {
        "identities in training": len(train.counts()),
        "identities in validation": len(validation_set.counts()),
        "images per identity (min, max)": _spread(train),
        "aligned by landmarks": source.aligned,
        "validation from": origin,
    }
    if "test" in samples:
        facts["test images, not used"] = len(samples["test"])
    return Splits(
        train.with_labels(),
        validation_set,
        facts,
        (*source.warnings, *_remarks(train, validation_set, rate)),
    )


def read_evaluation(data: Any, align: bool = True) -> EvaluationSplit:
    """Read images to evaluate; their identities need not be known from training.

    Args:
        data: See ``find_dataset``; the test split is used if there is one, otherwise the
            validation split, otherwise all images.
        align: Whether to align images with landmarks.

    Returns:
        ``FaceSamples``, their split, and warnings.

    Raises:
        DataError: There are no two images of one identity, or no two identities.
    """
    source = find_dataset(data, align)
    samples = _samples(source)
    split = evaluation_split(samples)
    with noticed(source.warnings):
        _check_comparable(samples[split], "the dataset")
    warnings = (*source.warnings, *_doubts(samples[split], "evaluated"))
    return EvaluationSplit(samples[split], name_evaluated(split), warnings, subjects="identities")


def check_trainable(train: FaceSamples) -> None:
    """Check that there are at least two identities.

    Args:
        train: Training samples.

    Raises:
        DataError: There are fewer.
    """
    if len(train.counts()) < 2:
        raise DataError(
            f"training requires images of at least two identities, not {len(train.counts())}"
        )


def refuse_shared(train: FaceSamples, validation: FaceSamples) -> None:
    """Refuse a split whose validation identities are also in training.

    Args:
        train: Training samples.
        validation: Validation samples.

    Raises:
        DataError: They share identities, which the message names.
    """
    shared = sorted(train.counts().keys() & validation.counts().keys())
    if shared:
        raise DataError(
            f"{len(shared)} identities are in training and in validation: "
            f"{name_some(shared, SHOWN)}; validation must have other identities, otherwise it "
            "measures overfitting"
        )


def _samples(source: IdentityDataset) -> dict[str, FaceSamples]:
    """Create targets; images are indexed over all splits, and have the pairs they are part of."""
    pairs: dict[str, list[tuple[int, int]]] = {}
    for number, (first, second, fold) in enumerate(source.pairs):
        pairs.setdefault(first, []).append((number, fold))
        pairs.setdefault(second, []).append((number, fold))
    found, start = {}, 0
    for name, split in source.splits.items():
        faces = _faces(split, pairs, start)
        found[name] = FaceSamples(split.samples, faces, aligned=source.aligned)
        start += len(split.names)
    return found


def _faces(
    split: IdentitySplit, pairs: dict[str, list[tuple[int, int]]], start: int
) -> tuple[Face, ...]:
    return tuple(
        Face(identity, start + i, tuple(pairs.get(split.samples.name(i), ())) if pairs else ())
        for i, identity in enumerate(split.names)
    )


def _split_off_validation(
    samples: FaceSamples, fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Hold out identities with two or more images; others could not be compared with themselves."""
    if not 0 < fraction < 1:
        raise OptionError(f"validation={fraction} is not a fraction in (0, 1)")
    counts = samples.counts()
    several = [name for name, count in counts.items() if count > 1]
    if len(counts) < 4 or len(several) < 2:
        raise DataError(
            f"the dataset has {len(counts)} identities, {len(several)} of them with two or more "
            "images; it needs at least two for training and two with two or more images for "
            "validation, or a validation split"
        )
    most = min(len(several), len(counts) - 2)
    number = min(max(round(fraction * len(counts)), 2), most)
    # Ordered by a hash: the stream of a library's generator may change with its version.
    chosen = set(sorted(several, key=lambda name: mix_seed(seed, "identity", name))[:number])
    train = [i for i, face in enumerate(samples.targets) if face.identity not in chosen]
    validation = [i for i, face in enumerate(samples.targets) if face.identity in chosen]
    return train, validation


def _check_comparable(samples: FaceSamples, what: str) -> None:
    counts = samples.counts()
    if len(counts) < 2 or max(counts.values()) < 2:
        raise DataError(
            f"{what} has {len(samples)} images of {len(counts)} identities; measuring verification "
            "requires two identities, and two images of one of them"
        )


def _spread(samples: FaceSamples) -> list[int]:
    counts = samples.counts().values()
    return [min(counts), max(counts)]


def _remarks(train: FaceSamples, validation: FaceSamples, rate: float | None) -> list[str]:
    lines = similar_names([*train.counts(), *validation.counts()])
    people = len(validation.counts())
    if rate is not None and people < people_needed(rate):
        lines.append(
            f"the validation split has {people} identities, on which all results rest; they are too "
            f"few to choose a threshold for a false accept rate of {rate:g}, which needs "
            f"{people_needed(rate)}, so the model will have no threshold; hold out more identities, or set threshold"
        )
    single = [name for name, count in train.counts().items() if count == 1]
    if single:
        named = name_some(single, SHOWN)
        lines.append(f"identities with only one training image: {named}; add images of them")
    return [*lines, *_doubts(validation, "validation")]


def _doubts(samples: FaceSamples, what: str) -> list[str]:
    """Return one warning for each kind of comparison that samples do not allow."""
    lines = []
    lonely = [name for name, count in samples.counts().items() if count == 1]
    if lonely:
        lines.append(
            f"identities with only one {what} image, which are only compared with others: "
            f"{name_some(lonely, SHOWN)}"
        )
    if any(face.pairs for face in samples.targets) and not _has_both_kinds(samples):
        lines.append(
            f"the listed pairs of {what} images are all of the same kind (same identity or "
            "different ones); random pairs are drawn instead"
        )
    return lines


def _has_both_kinds(samples: FaceSamples) -> bool:
    """Check whether the listed pairs include pairs of one identity and pairs of two."""
    first: dict[int, str] = {}
    kinds = set()
    for face in samples.targets:
        for number, _ in face.pairs:
            if number in first:
                kinds.add(first[number] == face.identity)
            first.setdefault(number, face.identity)
    return len(kinds) == 2
