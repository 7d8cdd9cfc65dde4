"""Feature caching: the outputs of the frozen stages are computed once, stored, and reused.

While stages are frozen and the images that enter them repeat, the outputs of the frozen modules
repeat too. They are recorded in one pass and returned by those very modules afterwards, so that
only the trainable rest of the network does any work. Nothing here knows a task; what is stored,
``caching.plan`` finds out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visiongraft.caching.folding import folded_copy
from visiongraft.caching.images import CachedImages, blank
from visiongraft.caching.plan import DTYPES, ReplayPlan
from visiongraft.caching.units import Value, cached_images, recording, replaced, stored_values
from visiongraft.data.batch import Batch
from visiongraft.errors import ReplayError
from visiongraft.network import Network


@dataclass
class Store:
    """Recorded values of one sample set, memory-mapped on disk.

    Attributes:
        arrays: One array (stored rows, *shape) per stored value, in plan order.
        targets: Target of each sample, as the loader returned it.
        sizes: Original height and width of each sample.
        positions: The stored row of each sample.
    """

    arrays: list[NDArray[Any]]
    targets: list[Any]
    sizes: NDArray[np.int64]
    positions: NDArray[np.int64]


@dataclass
class Replay:
    """Records and replays values during one phase; use it as a context manager.

    While it is ``playing``, the backbone accepts what ``load`` returns for images.

    Attributes:
        network: The prepared network.
        plan: From ``plan_replay``, with units.
        folder: Where the store goes; a temporary folder in it is removed at the end.
        dtype: Type to store.
    """

    network: Network
    plan: ReplayPlan
    folder: Path
    dtype: str = "float32"
    _scratch: tempfile.TemporaryDirectory[str] = field(init=False)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._scratch = tempfile.TemporaryDirectory(
            prefix="replay-", dir=self.folder, ignore_cleanup_errors=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.cleanup()

    def record(
        self, name: str, rows: int, batches: Iterator[Batch], folder: Path | None = None
    ) -> Store:
        """Run the frozen prefix over a sample set once, in order.

        Args:
            name: Name of the set, for the files.
            rows: Samples in it.
            batches: All of them, in row order, on the CPU, each with a list of targets.
            folder: Where the files go; ``None`` for the temporary folder.

        Returns:
            The store.

        Raises:
            ReplayError: The disk is full.
        """
        folder = folder or Path(self._scratch.name)
        try:
            arrays = [
                np.lib.format.open_memmap(
                    folder / f"{name}-{i}.npy", "w+", self._stored_dtype(v), (rows, *v.shape)
                )
                for i, v in enumerate(stored_values(self.plan.units))
            ]
        except OSError as error:
            raise ReplayError(
                f"the cache cannot be written to {folder}: {error}; pass replay=False"
            ) from error
        store = Store(list(arrays), [], np.zeros((rows, 2), dtype=np.int64), np.arange(rows))
        row = 0
        with ExitStack() as stack:
            prefix = None
            for batch in batches:
                if prefix is None:
                    prefix = stack.enter_context(self._recorder(batch.images))
                values = prefix(batch.images)
                end = row + len(batch.images)
                for array, value in zip(store.arrays, values, strict=True):
                    array[row:end] = value.to("cpu").numpy()
                store.sizes[row:end] = batch.sizes.numpy()
                store.targets += batch.targets
                row = end
        return store

    def agrees(self, store: Store, batch: Batch) -> bool:
        """Compute the features of some images anew, and compare them with recorded ones.

        Args:
            store: From ``record``, or of another run.
            batch: The images of its first stored rows, on the CPU.
        """
        with recording(self.network.backbone, self.plan.units) as prefix, torch.no_grad():
            values = prefix(batch.images)
        rows = slice(0, len(batch.images))
        return np.array_equal(store.sizes[rows], batch.sizes.numpy()) and all(
            array[rows].shape == tuple(value.shape)
            # Wide, since stored values may be rounded to float16 and of folded batch norms.
            and torch.allclose(torch.from_numpy(array[rows].copy()).to(value), value, 5e-3, 5e-4)
            for array, value in zip(store.arrays, values, strict=True)
        )

    @contextmanager
    def _recorder(self, images: Tensor) -> Iterator[Callable[[Tensor], list[Tensor]]]:
        """Return the fastest function from images to stored values that is correct on these images."""
        backbone, units = self.network.backbone, self.plan.units
        device = next(backbone.parameters()).device
        with ExitStack() as stack, torch.no_grad():
            folded = folded_copy(backbone, images.to(device))
            fast = stack.enter_context(recording(folded, units))
            exact = stack.enter_context(recording(backbone, units))
            pairs = zip(exact(images), fast(images), strict=True)
            yield fast if all(torch.allclose(a, b, 1e-3, 1e-4) for a, b in pairs) else exact

    @contextmanager
    def playing(self) -> Iterator[None]:
        """Let the backbone accept what ``load`` returns, besides images."""
        with replaced(self.network.backbone, self.plan.units):
            yield

    def load(self, store: Store, rows: Sequence[int], device: torch.device) -> CachedImages:
        """Load the cached features of a batch.

        Args:
            store: From ``record``.
            rows: Which rows make up the batch.
            device: Where to put them.

        Returns:
            A stand-in for the batch's images that carries the features.
        """
        index = store.positions[np.asarray(rows)]
        stored = (
            torch.from_numpy(array[index]).to(device=device, dtype=value.dtype)
            for array, value in zip(store.arrays, stored_values(self.plan.units), strict=True)
        )
        preprocess = self.network.preprocess
        channels, size = len(preprocess.config.mean), preprocess.config.size
        images = blank(preprocess.inputs.blank(len(index), channels, size), device)
        return cached_images(self.plan.units, stored, images)

    def _stored_dtype(self, value: Value) -> Any:
        if value.dtype.is_floating_point:
            return DTYPES[self.dtype]
        return torch.empty(0, dtype=value.dtype).numpy().dtype
