"""A task under trial: its example data, networks on them, and runs of the real engine."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from visiongraft.backbone import Backbone
from visiongraft.certificate import Certificate
from visiongraft.data.batch import Batch
from visiongraft.data.loader import BatchLoader, SampleDataset, ordered_batches
from visiongraft.data.samples import Samples, Splits
from visiongraft.exported import ExportedModel, open_exported
from visiongraft.fitting import fit
from visiongraft.hookspecs import hookimpl
from visiongraft.lookup import load_backbone
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.preprocess import PreprocessConfig
from visiongraft.registry.manager import plugins
from visiongraft.schedules import Phase, Phases, Schedule, schedule
from visiongraft.seeds import seeded
from visiongraft.task import Arrays, Task
from visiongraft.task_contract import bound, read_splits
from visiongraft.testing.report import Fault, NotTried, trying
from visiongraft.training.checkpoint import Checkpoint
from visiongraft.training.engine import Run
from visiongraft.training.evaluation import decode_batches, measure, to_arrays

IMAGES = 24
TOGETHER = 6  # of them in one batch, to look at closely
SIZE = 32
BACKBONE = "simple_cnn"
NORMALIZED = "timm/test_resnet"  # small, with batch norms and five stages
BATCH = 8
EPOCHS = 40  # of the run that must learn the images by heart


@schedule
def overfit(stages: Sequence[str], epochs: int, *, learning_rate: float = 3e-3) -> Phases:
    """Train everything, without augmentation."""
    yield Phase(epochs, "all", learning_rate, augment=False)


@dataclass(frozen=True)
class Example:
    """A task's example data, read.

    Attributes:
        data: The output of ``TaskExamples.make_dataset``.
        splits: What ``Task.read`` made of it.
        task: The task, bound to the training part.
    """

    data: Any
    splits: Splits
    task: Task


@dataclass
class RunRecorder:
    """Keeps what happened in a run; with ``stop_at``, ends it at that step as a crash would."""

    stop_at: int | None = None
    run: Run | None = None
    losses: list[dict[str, float]] = field(default_factory=list)

    @hookimpl
    def run_started(self, run: Run) -> None:
        """Keep the run."""
        self.run = run

    @hookimpl
    def step_ended(self, losses: dict[str, float]) -> None:
        """Keep the losses, and stop here if asked to."""
        self.losses.append(losses)
        if len(self.losses) == self.stop_at:
            raise Killed


class Killed(BaseException):
    """Ends a run as a crash does: nobody expects it."""


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        model: The model.
        run: The run.
        losses: Loss parts of each step.
        folder: Its folder, or ``None``.
    """

    model: TransferModel
    run: Run
    losses: list[dict[str, float]]
    folder: Path | None


@dataclass(frozen=True)
class Exported:
    """An exported file.

    Attributes:
        path: The file.
        certificate: What its exporter proved.
        opened: The file, opened without PyTorch.
    """

    path: Path
    certificate: Certificate
    opened: ExportedModel


class TaskTrial:
    """One task under trial; what is costly to make is made once and shared by the checks.

    Args:
        task: The task, or its class if it needs no options.
        backbone: Name of the backbone to train on, without pretrained weights.
        normalized: Name of the backbone whose batch norms must stay frozen.
        size: Height and width of the network input.
        schedule: What short runs follow.
        exporter: Suffix of the exported file.
        settings: Further settings of every run.
    """

    def __init__(
        self,
        task: Task | type[Task],
        *,
        backbone: str = BACKBONE,
        normalized: str = NORMALIZED,
        size: int = SIZE,
        schedule: str | Schedule = "lp_ft",
        exporter: str = ".onnx",
        **settings: Any,
    ) -> None:
        self.given = task
        self.backbone, self.normalized = backbone, normalized
        self.size, self.schedule, self.suffix = size, schedule, exporter
        self.settings = settings
        self._folder = tempfile.TemporaryDirectory(prefix="visiongraft-check-")
        self._made: dict[Any, Any] = {}

    @classmethod
    def of(cls, subject: Any) -> TaskTrial:
        """Give the trial itself, or a new one of a task."""
        return subject if isinstance(subject, TaskTrial) else cls(subject)

    def folder(self, name: str) -> Path:
        """Give a new folder."""
        path = Path(self._folder.name) / f"{len(list(Path(self._folder.name).iterdir()))}-{name}"
        path.mkdir()
        return path

    # ---- data ----

    @cached_property
    def task(self) -> Task:
        """The task."""
        if not isinstance(self.given, type):
            return self.given
        with trying("to make the task without options", see="task.Task"):
            return self.given()

    @cached_property
    def example(self) -> Example:
        """The example data; what fails to make them is told once, not by every check."""
        if "no example" in self._made:
            raise NotTried(f"there are no example data: {self._made['no example']}")
        try:
            return self.read(IMAGES, seed=0)
        except Fault as fault:
            self._made["no example"] = fault
            raise

    def read(self, images: int, seed: int) -> Example:
        """Make example data and read them."""
        words, see = "to make an example dataset", "task.Task.examples"
        with trying(words, see=see):
            examples = self.task.examples()
        if examples is None:
            kind = type(self.task).__name__
            raise Fault(
                words,
                f"none: task {self.task.name!r} has no examples to be checked with",
                f"a method {kind}.examples() that returns TaskExamples(make_dataset)",
                see,
            )
        with trying(words, see="task_support.TaskExamples"):
            data = examples.make_dataset(self.folder("data"), images, seed)
        with trying("to read the example data", see="task.Task.read"):
            splits = read_splits(self.task, data, validation=0.2, seed=0)
        with trying("to bind the task to the example data", see="task.Task.bind"):
            return Example(data, splits, bound(self.task, splits.train))

    def ideal(self, targets: Any) -> Arrays | None:
        """Return the decoded outputs of a model that is always right, if the task provides them."""
        examples = self.example.task.examples()
        return None if examples is None or examples.ideal is None else examples.ideal(targets)

    def batches(self, network: Network, samples: Samples, plan: Sequence[Sequence[int]]) -> Any:
        """Load batches as evaluation does: without augmentation, on the CPU."""
        dataset = SampleDataset(samples, network.preprocess_on_cpu())
        loader = BatchLoader(dataset, network.task.collate, one_size=network.one_size)
        return loader.batches([[(i, 0) for i in part] for part in plan])

    def batch(self, network: Network, positions: Sequence[int]) -> Batch:
        """Load some training images as one batch, of one size where the network needs that.

        Args:
            network: Decodes the batch.
            positions: Which of the training images, or of those of the commonest size; when
                there are no more of them, from the first one again.
        """
        samples = self.example.splits.train
        indices = self._alike if network.one_size else range(len(samples))
        plan = [[indices[p % len(indices)] for p in positions]]
        batch: Batch = next(iter(self.batches(network, samples, plan)))
        return batch

    @cached_property
    def _alike(self) -> list[int]:
        """Positions of the training images that have the commonest size."""
        samples = self.example.splits.train
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index in range(len(samples)):
            by_size.setdefault(samples.load(index, self.channels).shape, []).append(index)
        return max(by_size.values(), key=len)

    def together(self, count: int | None = None) -> tuple[Network, Batch]:
        """Give a new network, and the first training images as one batch; all if ``None``."""
        available = len(self.example.splits.train)
        count = available if count is None else count
        if available < count:
            raise Fault(
                f"to make example data of {IMAGES} images",
                f"{available} training images",
                "most of them",
                "task_support.TaskExamples",
            )
        network = self.network()
        with trying("to load a batch of the example data", see="task.Task.collate"):
            return network, self.batch(network, range(count))

    # ---- networks ----

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return int(self.settings.get("in_channels", 3))

    def network(self, size: tuple[int, int] | None = None) -> Network:
        """Build the task's network with random weights, always the same; in evaluation mode."""
        words = "to build head and loss on a backbone"
        with trying(words, see="task.Task.build_head"), seeded(0, "network"):
            return Network(self._new_backbone(size), self.example.task).eval()

    def preprocess(self, size: tuple[int, int] | None = None) -> PreprocessConfig:
        """Return how images are prepared for the task's network."""
        return self._new_backbone(size).info.preprocess

    def _new_backbone(self, size: tuple[int, int] | None) -> Backbone:
        backbone = load_backbone(
            self.backbone, weights=None, in_channels=self.channels, size=size or self.size
        )
        resize = self.settings.get("resize") or self.task.resize
        if resize is not None:
            preprocess = replace(backbone.info.preprocess, resize=resize)
            backbone.info = replace(backbone.info, preprocess=preprocess)
        return backbone

    def decode(self, network: Network, batch: Batch) -> Arrays:
        """Decode a batch in evaluation mode."""
        network.eval()
        with torch.no_grad():
            return to_arrays(network.decode(batch.images, batch.sizes))

    def measure(self, network: Network, samples: Samples) -> float:
        """Compute the headline of a network on samples."""
        batches = self.batches(network, samples, ordered_batches(len(samples), BATCH))
        decoded = ((arrays, batch.targets) for arrays, batch in decode_batches(network, batches))
        return headline(network.task, measure(network.task, decoded))

    # ---- runs ----

    def fit(self, tried: str, witness: RunRecorder | None = None, **settings: Any) -> Trained:
        """Train on the example data with the real engine.

        Args:
            tried: What the run is for, in words.
            witness: Listens to the run.
            settings: Settings of ``visiongraft.fit``, besides those that make runs short.
        """
        witness = witness or RunRecorder()
        values: dict[str, Any] = {
            "task": self.task,
            "backbone": self.backbone,
            "weights": None,
            "size": self.size,
            "batch_size": BATCH,
            "workers": 0,
            "device": "cpu",
            "replay": False,
            **self.settings,
        }
        callbacks = [witness, *self.settings.get("callbacks", ())]
        data = self.example.data
        with trying(tried), _quiet():
            model = fit(data, **{**values, **settings, "callbacks": callbacks})
        assert witness.run is not None
        return Trained(model, witness.run, witness.losses, settings.get("out"))

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Make something on first use, and keep it; a fault is kept too, and raised each time."""
        if name not in self._made:
            try:
                self._made[name] = make()
            except (Fault, NotTried) as fault:
                self._made[name] = fault
        if isinstance(self._made[name], Exception):
            raise self._made[name]
        return self._made[name]

    def trained(self) -> Trained:
        """Train for long enough to learn the images by heart."""
        return self.once(  # type: ignore[no-any-return]
            "trained",
            lambda: self.fit(
                f"to train everything on {len(self.example.splits.train)} images",
                schedule=overfit,
                epochs=EPOCHS,
                out=self.folder("trained") / "run",
            ),
        )

    def overfit(self) -> Network:
        """Give the network as the last epoch of that run left it: its model is of the best one."""
        folder = self.trained().folder
        assert folder is not None
        network = self.network()
        last = Checkpoint.read(folder / "checkpoints" / "last.safetensors")
        network.load_state_dict(last.tensors["network"])
        return network

    def short(self, name: str) -> Trained:
        """Train for two epochs, with augmentation if the schedule wants it; kept by its name."""
        return self.once(  # type: ignore[no-any-return]
            f"short {name}",
            lambda: self.fit("to train for two epochs", **self.short_settings(name)),
        )

    def short_settings(self, name: str) -> dict[str, Any]:
        """Give the settings of a short run, in a folder of its own."""
        return {
            "schedule": self.schedule,
            "epochs": 2,
            "checkpoint_every": 1,
            "out": self.folder(name) / "run",
        }

    def exported(self) -> Exported:
        """Export the trained model, prove it, and open it."""
        return self.once("exported", self._export)  # type: ignore[no-any-return]

    def _export(self) -> Exported:
        if self.suffix not in [e.suffix for e in plugins().exporters().values()]:
            raise NotTried(f"no exporter for {self.suffix} is installed")
        path = self.folder("exported") / f"model{self.suffix}"
        model = self.trained().model
        with trying(f"to export the trained model to {self.suffix}", see="task.Task.decode"):
            certificate = model.export(path)
        with trying("to open the exported file"):
            return Exported(path, certificate, open_exported(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what runs log on the example data off the terminal."""
    log, sink = logging.getLogger("visiongraft"), logging.NullHandler()
    log.addHandler(sink)
    try:
        yield
    finally:
        log.removeHandler(sink)


def headline(task: Task, results: dict[str, Any]) -> float:
    """Read the headline out of a task's metrics."""
    value = results.get(task.headline)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Fault(
            f"to read the headline {task.headline!r} of the metrics",
            f"{value!r} among {', '.join(results)}",
            "a number",
            "task.Metrics.compute",
        )
    return float(value)


def same(one: Any, other: Any) -> bool:
    """Say whether two values are equal, also if ``==`` cannot tell; NaN equals NaN here."""
    leaves, shape = pytree.tree_flatten(one)
    others, other_shape = pytree.tree_flatten(other)
    return shape == other_shape and all(map(_same_leaf, leaves, others))


def _same_leaf(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        one, other = one.detach().cpu().numpy(), other.detach().cpu().numpy()
    if isinstance(one, np.ndarray):
        nan = one.dtype.kind in "fc"
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=nan)
    # Arrays within objects make `==` raise, and objects that do not define it are never equal.
    if hasattr(one, "__dict__") and (is_dataclass(one) or "__eq__" not in _defined(one)):
        return same(_state(one), _state(other))
    return bool(one == other) or (isinstance(one, float) and isnan(one) and isnan(other))


def _state(value: Any) -> dict[str, Any]:
    """Give an object's attributes, without the fields that a dataclass does not compare."""
    apart = {f.name for f in fields(value) if not f.compare} if is_dataclass(value) else set()
    return {name: each for name, each in vars(value).items() if name not in apart}


def _defined(value: Any) -> set[str]:
    return {name for kind in type(value).__mro__[:-1] for name in vars(kind)}
