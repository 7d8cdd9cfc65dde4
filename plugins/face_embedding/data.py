"""From images of identities to training and validation samples that share no identity."""

from __future__ import annotations

from typing import Any

from visiongraft.data.samples import Splits
from visiongraft.errors import DataError, OptionError, name_some
from visiongraft.plugins.face_embedding.faces import Face, FaceSamples
from visiongraft.plugins.face_embedding.formats.reading import (
    IdentityDataset,
    IdentitySplit,
    find_source,
)
from visiongraft.seeds import mix_seed

SHOWN = 5


def read_splits(data: Any, *, align: bool = True, validation: float = 0.2, seed: int = 0) -> Splits:
    """Read a dataset to train on.

    Args:
        data: See ``find_source``.
        align: Align images whose landmarks the data bring.
        validation: Share of the identities to hold out where there is no validation part, in
            (0, 1).
        seed: Seed of that split.

    Returns:
        Training and validation samples that have no identity in common.

    Raises:
        DataError: Training and validation share identities, or have too few of them.
    """
    source = find_source(data, align)
    if "train" not in source.splits:
        raise DataError(f"the data have no training images, only {' and '.join(source.splits)}")
    samples = _samples(source)
    if "validation" in samples:
        train, validation_set = samples["train"], samples["validation"]
        origin = "the data's own part"
    else:
        train, validation_set = _split_off_validation(samples["train"], validation, seed)
        origin = f"{validation:.0%} of the identities, seed {seed}"
    refuse_shared(train, validation_set)
    check_trainable(train)
    _check_comparable(validation_set, "the validation part")
    facts = {
        "identities in training": len(train.counts()),
        "identities in validation": len(validation_set.counts()),
        "images of an identity (least, most)": _spread(train),
        "aligned by landmarks": source.aligned,
        "validation from": origin,
    }
    if "test" in samples:
        facts["test images, not used"] = len(samples["test"])
    return Splits(
        train.numbered(),
        validation_set,
        facts,
        (*source.warnings, *_remarks(train, validation_set)),
    )


def read_evaluation(data: Any, align: bool = True) -> FaceSamples:
    """Read images to evaluate on; identities may be any, known or not.

    Args:
        data: See ``find_source``; the test part is taken if there is one, else the validation
            part, else all.
        align: Align images whose landmarks the data bring.

    Returns:
        The samples.

    Raises:
        DataError: There are no two images of one identity, or no two identities.
    """
    samples = _samples(find_source(data, align))
    found = next(samples[p] for p in ("test", "validation", "train") if p in samples)
    _check_comparable(found, "the set")
    return found


def check_trainable(train: FaceSamples) -> None:
    """Make sure that there are identities to tell apart.

    Args:
        train: Training samples.

    Raises:
        DataError: There is one only.
    """
    if len(train.counts()) < 2:
        raise DataError(
            f"training takes images of two identities or more, not {len(train.counts())}"
        )


def refuse_shared(train: FaceSamples, validation: FaceSamples) -> None:
    """Refuse a split by which identities of validation are seen in training.

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
            f"{name_some(shared, SHOWN)}; validation must hold others, or it measures what was "
            "learned by heart"
        )


def _samples(source: IdentityDataset) -> dict[str, FaceSamples]:
    """Make targets; images are numbered through all parts, and know the pairs they are in."""
    pairs: dict[str, list[tuple[int, int]]] = {}
    for number, (first, second, fold) in enumerate(source.pairs):
        pairs.setdefault(first, []).append((number, fold))
        pairs.setdefault(second, []).append((number, fold))
    found, start = {}, 0
    for name, part in source.splits.items():
        found[name] = FaceSamples(part.samples, _faces(part, pairs, start), aligned=source.aligned)
        start += len(part.names)
    return found


def _faces(
    part: IdentitySplit, pairs: dict[str, list[tuple[int, int]]], start: int
) -> tuple[Face, ...]:
    return tuple(
        Face(identity, start + i, tuple(pairs.get(part.samples.name(i), ())) if pairs else ())
        for i, identity in enumerate(part.names)
    )


def _split_off_validation(
    samples: FaceSamples, fraction: float, seed: int
) -> tuple[FaceSamples, FaceSamples]:
    """Hold out identities with two images or more; others could not be compared with themselves."""
    if not 0 < fraction < 1:
        raise OptionError(f"validation={fraction} is not a share in (0, 1)")
    counts = samples.counts()
    several = [name for name, count in counts.items() if count > 1]
    if len(counts) < 4 or len(several) < 2:
        raise DataError(
            f"the data have {len(counts)} identities, {len(several)} of them with two images or "
            "more; two to train on and two to hold out are needed at least, or a validation part"
        )
    most = min(len(several), len(counts) - 2)
    wanted = min(max(round(fraction * len(counts)), 2), most)
    # Ordered by a hash, not by a library's generator, whose stream a new version may change.
    chosen = set(sorted(several, key=lambda name: mix_seed(seed, "identity", name))[:wanted])
    inside = [i for i, face in enumerate(samples.faces) if face.identity in chosen]
    outside = [i for i, face in enumerate(samples.faces) if face.identity not in chosen]
    return samples.subset(outside), samples.subset(inside)


def _check_comparable(samples: FaceSamples, what: str) -> None:
    counts = samples.counts()
    if len(counts) < 2 or max(counts.values()) < 2:
        raise DataError(
            f"{what} has {len(samples)} images of {len(counts)} identities; to measure "
            "verification it takes two identities, and two images of one of them"
        )


def _spread(samples: FaceSamples) -> list[int]:
    counts = samples.counts().values()
    return [min(counts), max(counts)]


def _remarks(train: FaceSamples, validation: FaceSamples) -> list[str]:
    lines = []
    single = [name for name, count in train.counts().items() if count == 1]
    if single:
        lines.append(f"identities with one training image only: {name_some(single, SHOWN)}")
    lonely = [name for name, count in validation.counts().items() if count == 1]
    if lonely:
        lines.append(
            f"identities with one validation image only, told from others but not found again: "
            f"{name_some(lonely, SHOWN)}"
        )
    kinds = {p for face in validation.faces for p, _ in face.pairs}
    if kinds and not _has_both_kinds(validation):
        lines.append(
            "the listed pairs of the validation images are all of one kind, so pairs are drawn"
        )
    return lines


def _has_both_kinds(samples: FaceSamples) -> bool:
    first: dict[int, str] = {}
    kinds = set()
    for face in samples.faces:
        for number, _ in face.pairs:
            if number in first:
                kinds.add(first[number] == face.identity)
            first.setdefault(number, face.identity)
    return len(kinds) == 2
