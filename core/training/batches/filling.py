"""Filling the feature cache of a phase: by one pass over the images, or from what other runs share."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from visiongraft.caching import shared
from visiongraft.caching.keys import features_key
from visiongraft.caching.plan import PROBE_BATCH
from visiongraft.caching.store import Replay, Store
from visiongraft.caching.units import stored_values
from visiongraft.data.batch import Batch
from visiongraft.data.findings import content_digest
from visiongraft.data.loader import Key, ordered_batches
from visiongraft.data.samples import Image, Samples
from visiongraft.errors import DataError, VisiongraftError, type_and_message
from visiongraft.system.byte_sizes import readable_size
from visiongraft.system.progress import images_in, track
from visiongraft.training.batches.loaders import TRAIN, ImageLoaders
from visiongraft.training.selection.criteria import VALIDATION

log = logging.getLogger("visiongraft")

# Small batches keep the activations of a pure inference pass in the processor's cache.
FILL_BATCH_CPU = 8
VALUES, SIZES = "values", "sizes"  # how arrays of shared features are named


@dataclass(frozen=True)
class DistinctImages(Samples):
    """Each image of some samples once, in the order of the digests, without its target.

    In this order equal sets of images make equal batches, so that their features are equal bit for bit,
    however the images are divided into training and validation.

    Attributes:
        digests: Digest of each image, ascending.
        places: The samples that have the image, and its position there.
    """

    digests: Sequence[str]
    places: Sequence[tuple[Samples, int]]

    @classmethod
    def of(cls, parts: Mapping[str, Samples], digests: Mapping[str, Sequence[str]]) -> Self:
        """Collect the images of several parts."""
        first: dict[str, tuple[Samples, int]] = {}
        for part, samples in parts.items():
            for index, digest in enumerate(digests[part]):
                first.setdefault(digest, (samples, index))
        ordered = sorted(first)
        return cls(ordered, [first[digest] for digest in ordered])

    def __len__(self) -> int:
        return len(self.places)

    def name(self, index: int) -> str:
        """Return the name of an image."""
        samples, position = self.places[index]
        return samples.name(position)

    def target(self, index: int) -> None:
        """Return ``None``: targets are read apart from the images."""

    def load(self, index: int, channels: int = 3) -> Image:
        """Decode an image."""
        samples, position = self.places[index]
        return samples.load(position, channels)

    def have_changed(self) -> bool:
        """Check whether any file has another content than its digest states."""
        contents = (samples.content(position) for samples, position in self.places)
        return any(
            content is not None and content_digest(content) != digest
            for content, digest in zip(contents, self.digests, strict=True)
        )


def fill_stores(
    images: ImageLoaders,
    replay: Replay,
    rows: Mapping[str, int],
    augment: bool,
    stack: ExitStack,
    shares: bool = True,
) -> dict[str, Store]:
    """Obtain the features of all parts of a run, each of them augmented if the phase augments it.

    Args:
        images: The samples of the run.
        replay: What is stored.
        rows: Number of rows to store of each part.
        augment: Whether training images are augmented.
        stack: Holds the files until the end of the phase.
        shares: Whether features are left for other runs. Those of a private run never are.

    Returns:
        One store per part.
    """
    groups = list(_groups(images, replay, augment))
    found = [_find_shared(images, replay, group) for group in groups]
    shares = shares and images.config.privacy is None  # what others shared is read all the same
    alone = [part for part in rows if not any(part in group.parts for group in groups)]
    _log(images, replay, rows, filling=bool(alone) or None in found)
    stores = {}
    for part in alone:
        stores[part] = _record_part(images, replay, part, rows[part], augment and part == TRAIN)
    for group, store in zip(groups, found, strict=True):
        if store is None:
            store = _record_group(images, replay, group, stack, shares)
        for part in group.parts:
            positions = group.positions(part)
            stores[part] = replace(
                store,
                positions=positions,
                sizes=store.sizes[positions],
                targets=_targets(images.parts[part]),
            )
    return stores


def all_shared(images: ImageLoaders, replay: Replay, augment: bool) -> bool:
    """Check whether other runs have left the features of all parts of a run.

    Args:
        images: The samples of the run.
        replay: What would be stored.
        augment: Whether training images are augmented.
    """
    groups = list(_groups(images, replay, augment))
    grouped = {part for group in groups for part in group.parts}
    return grouped >= images.parts.keys() and all(
        _find_shared(images, replay, group) is not None for group in groups
    )


def _log(images: ImageLoaders, replay: Replay, rows: Mapping[str, int], filling: bool) -> None:
    log.info(
        "replay: %s %s (%s per image, %s) for %d training and %d validation rows",
        "storing" if filling else "reusing the shared cache,",
        readable_size(sum(rows.values()) * replay.plan.bytes_per_image),
        readable_size(replay.plan.bytes_per_image),
        replay.dtype,
        rows[TRAIN],
        sum(rows.values()) - rows[TRAIN],
    )


# ---- parts by themselves: augmented images, and images that may change ----


def _record_part(
    images: ImageLoaders, replay: Replay, part: str, count: int, augment: bool
) -> Store:
    samples = len(images.parts[part])
    keys: list[list[Key]] = [
        [(row % samples, row // samples) for row in batch]
        for batch in ordered_batches(count, _batch_size(images))
    ]
    loader = images.loader(part, augment, whole=False)
    return replay.record(part, count, _tracked(loader.batches(keys), count))


def _tracked(batches: Iterator[Batch], count: int) -> Iterator[Batch]:
    return track(batches, "caching features", count, images_in)


def _batch_size(images: ImageLoaders) -> int:
    return FILL_BATCH_CPU if images.device.type == "cpu" else images.config.batch_size


# ---- groups of parts whose images are known by their content ----


@dataclass(frozen=True)
class _Group:
    """Parts of a run whose distinct images are stored together.

    Attributes:
        parts: Names of the parts.
        images: Their images.
        digests: Digests of the images of all parts of the run.
        key: Key of the features among those that runs share; empty if they are not shared.
    """

    parts: tuple[str, ...]
    images: DistinctImages
    digests: Mapping[str, Sequence[str]]
    key: str

    def positions(self, part: str) -> NDArray[np.int64]:
        """Return the stored row of each sample of a part."""
        rows = {digest: row for row, digest in enumerate(self.images.digests)}
        return np.array([rows[digest] for digest in self.digests[part]], dtype=np.int64)


def _groups(images: ImageLoaders, replay: Replay, augment: bool) -> Iterator[_Group]:
    """Group training and validation images; each further set is a group of its own."""
    known = [part for part in images.parts if part in images.digests]
    plain = [part for part in known if not (augment and part == TRAIN)]
    divided = tuple(part for part in plain if part in (TRAIN, VALIDATION))
    for group in (divided, *((part,) for part in plain if part not in divided)):
        if group:
            parts = {part: images.parts[part] for part in group}
            distinct = DistinctImages.of(parts, images.digests)
            yield _Group(group, distinct, images.digests, _key(images, replay, distinct))


def _key(images: ImageLoaders, replay: Replay, distinct: DistinctImages) -> str:
    if not images.config.replay_shared:
        return ""
    size = _batch_size(images)
    return features_key(images.network, replay.plan, distinct.digests, replay.dtype, size)


def _targets(samples: Samples) -> list[Any]:
    def read(index: int) -> Any:
        try:
            return samples.target(index)
        except VisiongraftError:
            raise
        except Exception as error:  # a task's or a user's own code may raise any error
            cause = type_and_message(error)
            raise DataError(f"{samples.name(index)}: cannot be prepared: {cause}") from error

    with ThreadPoolExecutor() as threads:
        return list(threads.map(read, range(len(samples))))


def _batches(images: ImageLoaders, group: _Group, count: int | None = None) -> Iterator[Batch]:
    """Load the images of a group, or the first of them, in order."""
    loader = images.loader_of(group.images, augment=False, whole=False)
    plan = ordered_batches(len(group.images) if count is None else count, _batch_size(images))
    return loader.batches([[(index, 0) for index in batch] for batch in plan])


def _record_group(
    images: ImageLoaders, replay: Replay, group: _Group, stack: ExitStack, shares: bool
) -> Store:
    """Record the features of a group, and share them if that is wanted and possible."""
    count = len(group.images)
    written = _new_folder(replay, group, stack) if group.key and shares else None
    if written is None:
        return replay.record(group.parts[0], count, _tracked(_batches(images, group), count))
    store = replay.record(VALUES, count, _tracked(_batches(images, group), count), written)
    if group.images.have_changed():
        log.warning(
            "replay: images have changed since the run began; their features are not shared"
        )
        return store
    try:
        np.save(written / f"{SIZES}.npy", store.sizes)
        arrays = dict(zip(_names(replay), [*store.arrays, store.sizes], strict=True))
        shared.add_entry(written, group.key, arrays, _about(replay, count))
    except (OSError, VisiongraftError) as error:
        log.info("replay: features are not shared: %s", error)
    return store


def _new_folder(replay: Replay, group: _Group, stack: ExitStack) -> Path | None:
    """Create a folder for features that other runs will use, if there is room for them."""
    try:
        written = stack.enter_context(shared.new_folder(shared.shared_folder()))
        free = shutil.disk_usage(written).free
    except (OSError, VisiongraftError) as error:
        log.info("replay: features are not shared: %s", error)
        return None
    size = len(group.images) * replay.plan.bytes_per_image
    return written if size <= min(shared.LIMIT, free // 2) else None


def _find_shared(images: ImageLoaders, replay: Replay, group: _Group) -> Store | None:
    """Return the features of a group that another run stored, if they agree with the network."""
    if not group.key:
        return None
    try:
        folder = shared.shared_folder()
    except VisiongraftError:
        return None
    arrays = shared.open_entry(folder, group.key, _names(replay))
    if arrays is None:
        return None
    sizes = arrays.pop(SIZES)
    store = Store(list(arrays.values()), [], sizes, np.arange(len(sizes)))
    if replay.agrees(store, next(_batches(images, group, min(PROBE_BATCH, len(group.images))))):
        return store
    log.warning("replay: shared features disagree with the network and are computed anew")
    shared.remove_entry(folder / group.key)
    return None


def _names(replay: Replay) -> list[str]:
    count = len(list(stored_values(replay.plan.units)))
    return [*(f"{VALUES}-{i}" for i in range(count)), SIZES]


def _about(replay: Replay, count: int) -> dict[str, Any]:
    layers = [unit.name for unit in replay.plan.units if any(v.needed for v in unit.values)]
    return {
        "backbone": replay.network.backbone.info.name,
        "layers": [name or "all" for name in layers],
        "images": count,
        "dtype": replay.dtype,
    }
