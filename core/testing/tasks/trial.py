"""A task under trial: its example dataset, networks for it, and runs of the real engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch

from visiongraft.backbone import Backbone
from visiongraft.data.batch import Batch
from visiongraft.data.loader import BatchLoader, SampleDataset, ordered_batches
from visiongraft.data.samples import Samples, Splits
from visiongraft.errors import OptionError
from visiongraft.extra_outputs import first_features
from visiongraft.fitting import fit
from visiongraft.lookup.backbones import load_backbone
from visiongraft.lookup.exported import open_exported
from visiongraft.network import InferenceGraph, Network
from visiongraft.options import is_number
from visiongraft.preprocess import PreprocessConfig
from visiongraft.registry.manager import plugins
from visiongraft.schedules import Phase, Phases, Schedule, schedule
from visiongraft.seeds import seeded
from visiongraft.task import Arrays, Task, TaskExamples
from visiongraft.task_contract.checks import bound, read_evaluation, read_splits, read_stream
from visiongraft.testing.report import Fault, NotTried, expect, trying
from visiongraft.testing.tasks.runs import Exported, RunRecorder, Trained, without_log
from visiongraft.testing.trials import Trial
from visiongraft.training.batches.streams import stream_loader
from visiongraft.training.evaluation import decode_batches, measure, to_arrays

Made = TypeVar("Made")

IMAGES = 24
TOGETHER = 6  # of them in one batch, to look at closely
SIZE = 32
BACKBONE = "simple_cnn"
NORMALIZED = "timm/test_resnet"  # small, with batch norms and five stages
BATCH = 8
EPOCHS = 40  # of the run that must overfit the images


@schedule
def overfit(
    stages: Sequence[str], epochs: int, *, learning_rate: float = 3e-3, batch_norm: str = "frozen"
) -> Phases:
    """Train everything, without augmentation."""
    yield Phase(epochs, "all", learning_rate, batch_norm=batch_norm, augment=False)


@dataclass(frozen=True)
class Example:
    """A task's example dataset.

    Attributes:
        data: The output of ``TaskExamples.make_dataset``.
        splits: The result of ``Task.read``.
        task: The task, bound to the training split.
        streams: The output of ``TaskExamples.make_streams``.
    """

    data: Any
    splits: Splits
    task: Task
    streams: Mapping[str, Any]


class TaskTrial(Trial):
    """A task under trial; expensive objects are created once and shared by the checks.

    Args:
        task: The task, or its class if it needs no options.
        backbone: Name of the backbone to train on, without pretrained weights.
        normalized: Name of a backbone with batch norms, for checks of freezing.
        size: Network input, one number or height and width.
        schedule: The schedule of short runs.
        exporter: Suffix of the exported file.
        batch_norm: What happens to running statistics while a few images are overfit, as in ``Phase``.
        settings: Further settings of ``fit`` for every run.
    """

    def __init__(
        self,
        task: Task | type[Task],
        *,
        backbone: str = BACKBONE,
        normalized: str = NORMALIZED,
        size: int | tuple[int, int] = SIZE,
        schedule: str | Schedule = "lp_ft",
        exporter: str = ".onnx",
        batch_norm: str = "frozen",
        **settings: Any,
    ) -> None:
        super().__init__(task)
        self.given = task
        self.backbone, self.normalized = backbone, normalized
        self.size = (size, size) if isinstance(size, int) else size
        self.schedule, self.suffix, self.batch_norm = schedule, exporter, batch_norm
        self.settings = settings
        self._made: dict[Any, Any] = {}

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
        """The example dataset; a failure to create it is reported once, not by every check."""
        if "no example" in self._made:
            raise NotTried(f"there is no example dataset: {self._made['no example']}")
        try:
            return self.read(IMAGES, seed=0)
        except Fault as fault:
            self._made["no example"] = fault
            raise

    def read(self, images: int, seed: int) -> Example:
        """Create an example dataset and read it."""
        words, see = "to create an example dataset", "task.Task.examples"
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
        with trying(words, see="task.TaskExamples"):
            data = examples.make_dataset(self.folder("data"), images, seed)
        with trying("to read the example dataset", see="task.Task.read"):
            splits = read_splits(self.task, data, validation=0.2, seed=0)
        with trying("to bind the task to the example dataset", see="task.Task.bind"):
            ready = bound(self.task, splits.train)
        return Example(data, splits, ready, self._make_streams(examples, images, seed))

    def _make_streams(self, examples: TaskExamples, images: int, seed: int) -> Mapping[str, Any]:
        """Create the streams that the task uses."""
        names, make = self.task.streams, examples.make_streams
        words, see = f"to create the streams {', '.join(names)}", "task.TaskExamples"
        with trying(words, see=see):
            found = make(self.folder("streams"), images, seed) if names and make else {}
        expect(
            found.keys() == set(names),
            words,
            f"streams {', '.join(found) or 'none'}",
            "TaskExamples(make_streams=...) that returns data for each of Task.streams",
            see,
        )
        return found

    def proof_targets(self, network: Network, batch: Batch) -> Any:
        """Return the targets of a batch as exported files are measured by them."""
        with trying("to make samples to prove a file on", see="task.Task.proof_samples"):
            samples = network.task.proof_samples(network.eval(), self.samples())
            return network.task.collate([samples.target(i) for i in batch.indices.tolist()])

    def ideal(self, targets: Any) -> Arrays | None:
        """Return the decoded outputs of a model that is always right, if the task provides them.

        Args:
            targets: Of ``proof_targets``.
        """
        examples = self.example.task.examples()
        if examples is None or examples.ideal is None:
            return None
        return {name: np.asarray(value) for name, value in examples.ideal(targets).items()}

    def ideal_like(self, decoded: Arrays, network: Network, batch: Batch) -> Arrays | None:
        """Return ideal outputs for a batch of the types of real ones, if the task provides all of them."""
        ideal = self.ideal(self.proof_targets(network, batch))
        if ideal is None or ideal.keys() != decoded.keys():
            return None
        return {name: value.astype(decoded[name].dtype) for name, value in ideal.items()}

    def batches(
        self,
        network: Network,
        samples: Samples,
        plan: Sequence[Sequence[int]],
        any_size: bool = False,
    ) -> Iterator[Batch]:
        """Load batches as evaluation does: without augmentation, on the CPU.

        Each has the same batch of each of the task's streams.
        """
        dataset = SampleDataset(samples, network.preprocess_on_cpu())
        one_size = network.one_size and not any_size
        loader = BatchLoader(dataset, network.task.collate, one_size=one_size)
        streams = self._stream_batches(network)
        for batch in loader.batches([[(i, 0) for i in part] for part in plan]):
            yield replace(batch, streams=streams)

    def _stream_batches(self, network: Network) -> dict[str, Batch]:
        found = {}
        for name, data in self.example.streams.items():
            with trying(f"to read the stream {name!r}", see="task.Task.read_stream"):
                samples = read_stream(network.task, name, data)
                loader = stream_loader(network, name, samples, seed=0)
                count = min(BATCH, len(samples))
                (found[name],) = loader.batches([[(i, 0) for i in range(count)]])
        return found

    def samples(self, example: Example | None = None) -> Samples:
        """Return samples to compute results of: training samples, or drawn ones if the task takes these.

        Args:
            example: An example dataset; ``None`` for the usual one.
        """
        example = example or self.example
        if not self.task.inputs.drawn:
            return example.splits.train
        with trying("to read the example dataset to evaluate on", see="task.Task.read_evaluation"):
            return read_evaluation(example.task, example.data).samples

    def batch(
        self,
        network: Network,
        positions: Sequence[int],
        any_size: bool = False,
        training: bool = False,
    ) -> Batch:
        """Load some samples as one batch, of one size if the network requires it.

        Args:
            network: The network to prepare the batch for.
            positions: Indices into the samples, or into those of the most common size; they wrap
                around.
            any_size: Take images of any size, as a training step does.
            training: Take samples to train on, where these are others than to compute results of.
        """
        samples = self.example.splits.train if training else self.samples()
        alike = network.one_size and not any_size and samples is self.example.splits.train
        indices = self._alike if alike else range(len(samples))
        plan = [[indices[p % len(indices)] for p in positions]]
        batch: Batch = next(iter(self.batches(network, samples, plan, any_size)))
        return batch

    @cached_property
    def _alike(self) -> list[int]:
        """Indices of the training images that have the most common size."""
        samples = self.example.splits.train
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index in range(len(samples)):
            by_size.setdefault(samples.load(index, self.channels).shape, []).append(index)
        return max(by_size.values(), key=len)

    def together(
        self, count: int | None = None, any_size: bool = False, training: bool = False
    ) -> tuple[Network, Batch]:
        """Return a new network, and the first samples as one batch; all if ``None``. See ``batch``."""
        available = len(self.example.splits.train)
        count = available if count is None else count
        if available < count:
            raise Fault(
                f"to create an example dataset of {IMAGES} images",
                f"{available} training images",
                "most of them",
                "task.TaskExamples",
            )
        network = self.network()
        with trying("to load a batch of the example dataset", see="task.Task.collate"):
            return network, self.batch(network, range(count), any_size, training)

    # ---- networks ----

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return int(self.settings.get("in_channels", 3))

    def network(self, size: tuple[int, int] | None = None) -> Network:
        """Build the task's network with the same random weights each time, in evaluation mode."""
        words = "to build head and loss on a backbone"
        with trying(words, see="task.Task.build_head"), seeded(0, "network"):
            return Network(self._new_backbone(size), self.example.task).eval()

    def preprocess(self, size: tuple[int, int] | None = None) -> PreprocessConfig:
        """Return how images are preprocessed for the task's network."""
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

    def results(self, network: Network, batch: Batch) -> Arrays:
        """Compute what metrics are given when a network is evaluated, see ``Task.evaluation_step``."""
        ((found, _),) = decode_batches(network, [batch])
        return found

    def measure(self, network: Network, samples: Samples) -> float:
        """Compute the headline of a network on samples."""
        batches = self.batches(network, samples, ordered_batches(len(samples), BATCH))
        decoded = ((arrays, batch.targets) for arrays, batch in decode_batches(network, batches))
        return headline(network.task, measure(network.task, decoded))

    # ---- runs ----

    def fit(self, tried: str, witness: RunRecorder | None = None, **settings: Any) -> Trained:
        """Train on the example dataset with the real engine.

        Args:
            tried: The purpose of the run, for messages.
            witness: A callback that records the run.
            settings: Further settings of ``visiongraft.fit``.
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
            "streams": self.example.streams or None,
            **self.settings,
        }
        callbacks = [witness, *self.settings.get("callbacks", ())]
        data = self.example.data
        with trying(tried), without_log():
            model = fit(data, **{**values, **settings, "callbacks": callbacks})
        assert witness.run is not None
        return Trained(model, witness.run, witness.losses)

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """Create an object on first use and keep it; a fault is kept too, and raised each time."""
        if name not in self._made:
            try:
                self._made[name] = make()
            except (Fault, NotTried) as fault:
                self._made[name] = fault
        made: Made | Fault | NotTried = self._made[name]
        if isinstance(made, Fault | NotTried):
            raise made
        return made

    def trained(self) -> Trained:
        """Train for long enough to overfit the images."""
        return self.once("trained", self._train)

    def _train(self) -> Trained:
        words = f"to train everything on {len(self.example.splits.train)} images"
        out = self.folder("trained") / "run"
        schedule = overfit(batch_norm=self.batch_norm)
        return self.fit(words, schedule=schedule, epochs=EPOCHS, out=out)

    def overfit(self) -> Network:
        """Return the network after the last epoch of that run; its model is of the best epoch."""
        network = self.network()
        network.load_state_dict(self.trained().last_tensors()["network"])
        return network

    def short(self, name: str) -> Trained:
        """Train for two epochs, once per name."""
        words = "to train for two epochs"
        return self.once(f"short {name}", lambda: self.fit(words, **self.short_settings(name)))

    def short_settings(self, name: str) -> dict[str, Any]:
        """Return the settings of a short run in a new folder."""
        out = self.folder(name) / "run"
        return {"schedule": self.schedule, "epochs": 2, "checkpoint_every": 1, "out": out}

    def exported(self) -> Exported:
        """Export the trained model, prove it, and open it."""
        return self.once("exported", self._export)

    def _export(self) -> Exported:
        if self.suffix not in [e.suffix for e in plugins().exporters().values()]:
            raise NotTried(f"no exporter for {self.suffix} is installed")
        path = self.folder("exported") / f"model{self.suffix}"
        model = self.trained().model
        extras = offered_extras(model.network)
        options: dict[str, Any] = {"extra_outputs": extras} if extras else {}
        with trying(f"to export the trained model to {self.suffix}", see="task.Task.decode"):
            certificate = model.export(path, **options)
        with trying("to open the exported file"):
            return Exported(path, certificate, open_exported(path))


def offered_extras(network: Network) -> tuple[str, ...]:
    """Return the names of the task's extra outputs, without those that refuse this backbone or head."""
    task, size = network.task, network.preprocess.config.size
    extras = task.extra_outputs()
    if not extras:
        return ()
    device = next(network.parameters()).device
    shape = task.inputs.blank(1, network.backbone.info.in_channels, size)
    sizes = torch.tensor([size], device=device)
    graph, kept = InferenceGraph(network), []
    with torch.no_grad(), first_features(network.backbone) as features:
        outputs = network.eval().outputs(torch.zeros(shape, device=device), sizes)
        for name, function in extras.items():
            with suppress(OptionError):
                with suppress(
                    ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError
                ):
                    function(graph, features[0], outputs)  # checks report other errors
                kept.append(name)
    return tuple(kept)


def score(task: Task, decoded: Arrays, targets: Any) -> float:
    """Compute the headline of the results for one batch."""
    metrics = task.build_metrics()
    metrics.update(decoded, targets)
    return headline(task, metrics.compute())


def headline(task: Task, results: dict[str, Any]) -> float:
    """Return the headline of a task's results."""
    value = results.get(task.headline)
    if not is_number(value, finite=False):
        raise Fault(
            f"to read the headline {task.headline!r} of the metrics",
            f"{value!r} among {', '.join(results)}",
            "a number",
            "task.Metrics.compute",
        )
    return float(value)
