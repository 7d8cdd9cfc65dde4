"""The contract of sections of reports: the core, tasks and plugins provide them alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from visiongraft.config import FitConfig
from visiongraft.data.samples import Samples
from visiongraft.network import Network
from visiongraft.pages.parts import Part
from visiongraft.task import Arrays, Task
from visiongraft.training.batches.own_augmentation import Augment

Projection = Literal["pca", "umap"]


@dataclass
class ReportedRun:
    """What sections know of a run.

    Attributes:
        folder: The run folder.
        config: Its settings.
        network: The trained network, in evaluation mode.
        facts: What the model states about data, training and metrics, see ``TransferModel.facts``.
        history: The record of each epoch, as in ``metrics.jsonl``.
        receipts: As in ``receipts.json``.
        training: Training samples; ``None`` if they are no longer there.
        validation: Validation samples, likewise.
        complete: Whether sections may look at all images; otherwise the report is written at the end of
            ``fit`` and must take no time.
        exported: Files that the model was exported to.
        projection: How embeddings are put into the plane: ``"pca"`` or ``"umap"``.
        augment: The user's own augmentation; ``None`` also if it was an object in another process.
        notes: What could not be shown, one line each.
        embedded: Embeddings (N, D) of the training samples, once a section has asked for them; see
            ``visiongraft.reporting.passes.training_embeddings``.
    """

    folder: Path
    config: FitConfig
    network: Network
    facts: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    receipts: Sequence[Mapping[str, Any]]
    training: Samples | None = None
    validation: Samples | None = None
    complete: bool = False
    exported: Sequence[Path] = ()
    projection: Projection = "pca"
    augment: Augment | None = None
    notes: list[str] = field(default_factory=list)
    embedded: NDArray[np.float64] | None = field(default=None, repr=False)

    @property
    def task(self) -> Task:
        """What the model does."""
        return self.network.task

    @property
    def metrics(self) -> Mapping[str, Any]:
        """All metrics of the epoch that was kept, on the validation images."""
        return {n: v for n, v in self.facts.get("metrics", {}).items() if n != "epoch"}

    @property
    def class_names(self) -> list[str]:
        """Names of the classes by id; empty if the task has none."""
        return list(self.task.metadata().get("class_names", ()))

    def name(self, samples: Samples, index: int) -> str:
        """Return the name of a sample within the dataset, without the folders that lead there."""
        path = Path(samples.name(index))
        roots = (
            self.config.data.values() if isinstance(self.config.data, dict) else [self.config.data]
        )
        for root in filter(None, roots):
            if path.is_relative_to(root):
                return str(path.relative_to(root))
        return str(Path(*path.parts[-2:])) if path.is_absolute() else str(path)


@dataclass(frozen=True)
class Results:
    """What the network computed for a batch of validation images.

    Attributes:
        decoded: The output of ``Task.decode`` as arrays.
        targets: Collated targets, on the CPU.
        positions: The positions of the images among the validation samples.
        embeddings: float32 (N, D), pooled features of the backbone; ``None`` if it did not run once for
            each image.
    """

    decoded: Arrays
    targets: Any
    positions: Sequence[int]
    embeddings: NDArray[np.float32] | None


class ReportSection(ABC):
    """One section of a report; an object is made for each report.

    Attributes:
        name: Its name, also its anchor on the page: letters, digits and ``_``.
        title: Its heading.
        position: Sections are sorted by it: 0 for the headline, 90 and more for the environment.
        watches: Whether ``update`` needs the results of all validation images. Such a section is left out
            of the report that ``fit`` writes.

    Args:
        run: The run.

    Examples:
        >>> from visiongraft.pages.parts import Text
        >>> class Weather(ReportSection):
        ...     name, title = "weather", "Weather"
        ...
        ...     def parts(self):
        ...         yield Text(f"{len(self.run.history)} epochs of sunshine")
    """

    name: ClassVar[str]
    title: ClassVar[str]
    position: ClassVar[int] = 50
    watches: ClassVar[bool] = False

    def __init__(self, run: ReportedRun) -> None:
        self.run = run

    def update(self, results: Results) -> None:  # noqa: B027 - most sections watch nothing
        """Take note of the results of a batch of validation images, if ``watches``."""

    @abstractmethod
    def parts(self) -> Iterable[Part]:
        """Return what the section consists of; nothing leaves it out."""
