"""What a plugin supplies to add a task; the core supplies everything else.

The core calls these methods in this order::

    splits  = task.read(data)                       # find samples and targets
    task    = task.bind(splits.train)               # remember labels and other facts of the data
    head    = task.build_head(backbone)             # Features -> outputs
    loss    = task.build_loss()                     # outputs, targets -> named parts
    image, target = task.train_transform(size)(image, target)      # per sample, in training
    targets = task.collate([target, ...])           # per batch
    plan    = task.deal_batches(train, batch_size, processes, seed=0, epoch=0)
    losses  = task.training_step(network, batch)
    outputs = task.inference_step(network, images)  # evaluation, prediction and export alike
    decoded = task.decode(outputs, sizes)
    metrics.update(decoded, targets); metrics.compute()
    task    = task.after_training(results)          # what the best epoch's metrics decide
    predictions = task.predictions(decoded)         # typed, one per image
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, TypeVar

import torch
from PIL import Image as PillowImage
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.data import default_collate

from visiongraft.comparison import Arrays, Disagreement, compare_arrays
from visiongraft.data.nearest import at_size
from visiongraft.data.samples import Samples, Splits, Transform
from visiongraft.errors import OptionError, PluginError, near_matches

if TYPE_CHECKING:
    from visiongraft.backbone import Backbone
    from visiongraft.data.batch import Batch
    from visiongraft.network import InferenceGraph, Network
    from visiongraft.preprocess import PreprocessConfig

__all__ = [
    "AnyTask",
    "Arrays",
    "Decoded",
    "Disagreement",
    "Metrics",
    "Task",
    "Transform",
    "compare_arrays",
    "create_task",
    "names_of",
    "with_options",
]

Decoded = dict[str, Tensor]
AnyTask = TypeVar("AnyTask", bound="Task")


class Metrics(Protocol):
    """Measures predictions over a whole set."""

    def update(self, decoded: Arrays, targets: Any) -> None:
        """Take one batch in.

        Args:
            decoded: What ``Task.decode`` gave, as numpy arrays, from PyTorch or from ONNX.
            targets: What ``Task.collate`` made, on the CPU.
        """

    def compute(self) -> dict[str, Any]:
        """Give all results so far.

        Returns:
            JSON values by name. Scalars are floats; per-class results and tables are nested.
            Holds ``Task.headline``.
        """


@dataclass(frozen=True)
class Task(ABC):
    """Base of every task; subclasses are frozen dataclasses whose fields are the task's options.

    Fields hold JSON values only (numbers, strings, booleans, ``None``, tuples and dicts of them):
    they are written to ``config.json`` and given back to the constructor on load. What is learned
    from the data before training, such as label names, is a field too, filled in by ``bind``.

    Attributes:
        name: How users ask for the task.
        headline: The metric that picks the best epoch. Where it depends on an option, set it on
            the instance in ``__post_init__``, by ``object.__setattr__``.
        better: Whether a higher or a lower headline is better.
        resize: How images are brought to the network's size unless the user says otherwise:
            ``"stretch"`` where targets are places, which a crop would cut off; ``None`` leaves it
            to the backbone.
        input_size: Height and width of the network input unless the user says otherwise, in pixels;
            ``None`` leaves it to the backbone.
        loss_over_pairs: Whether the loss compares the samples of a batch with each other, as triplet
            and contrastive losses do, so that its parts are no means over samples. Pairs are then
            formed within one forward pass of one process: accumulation and further processes add
            more such passes, and make no larger ones. Where it depends on an option, set it on the
            instance like ``headline``.
        bounds: Least and greatest headline there can be. ``None`` means 0 to 1 if higher is better,
            else 0 and above.
        full_resolution_outputs: Names of head outputs (the head then returns a dict) that are maps (N, C, h,
            w) over the network's input. The core brings them back to the images' own height and
            width before ``decode``, which therefore sees batches of images of one size.
    """

    name: ClassVar[str]
    headline: ClassVar[str]
    better: ClassVar[Literal["higher", "lower"]] = "higher"
    bounds: ClassVar[tuple[float, float] | None] = None
    resize: ClassVar[Literal["crop", "stretch", "pad"] | None] = None
    input_size: ClassVar[tuple[int, int] | None] = None
    loss_over_pairs: ClassVar[bool] = False
    full_resolution_outputs: ClassVar[tuple[str, ...]] = ()

    # ---- data ----

    @abstractmethod
    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        """Find the samples of a dataset, without decoding any image.

        Args:
            data: What the user gave: a path in one of the task's formats, a map-style dataset of
                (image, target), or a pair (training, validation) of either.
            validation: Share to hold out where the data name no validation part, in (0, 1).
            seed: Seed of that split.

        Returns:
            Training and validation samples.

        Raises:
            DataError: The data are missing or in no format the task knows.
        """

    @abstractmethod
    def read_labeled(self, data: Any) -> Samples:
        """Find samples to evaluate a trained model on, by the label map it was trained with.

        Args:
            data: As in ``read``; if it has parts, the test part, else the validation part.

        Returns:
            Samples whose targets use this task's label map.

        Raises:
            DataError: A label is not in the label map.
        """

    def bind(self, train: Samples) -> Self:
        """Remember what head, loss and metrics must know of the data, such as label names.

        Args:
            train: The training samples, unreadable ones already dropped.

        Returns:
            The task to train.
        """
        return self

    def train_transform(self, size: tuple[int, int]) -> Transform | None:
        """Make the random training-time augmentation of one sample.

        Randomness must come from torch, numpy or ``random``; the core seeds all three per sample,
        epoch and view.

        Args:
            size: Height and width to produce, in pixels.

        Returns:
            A callable from (``tv_tensors.Image`` uint8 (C, H, W), target) to (image (C, height,
            width) in 0..255, target), or ``None`` for no augmentation. Worker processes get it by
            pickle, so it is an object of a class at the top of a module, not a lambda.
        """
        return None

    def transform_for(self, preprocess: PreprocessConfig) -> Transform | None:
        """Make the augmentation for a network; override it where it depends on more than the size.

        With ``resize="pad"`` images keep their scale, so that training should show parts of them
        at that scale.

        Args:
            preprocess: How the network's images are prepared without augmentation.

        Returns:
            See ``train_transform``, which the default asks.
        """
        return self.train_transform(preprocess.size)

    def mix(self, images: Tensor, targets: Any) -> tuple[Tensor, Any]:
        """Mix the samples of one training batch with each other (mixup, cutmix).

        Only called in training, after ``train_transform`` and ``collate``, and only when
        ``train_transform`` gave a transform. The core seeds it per batch.

        Args:
            images: float (N, C, height, width), normalized.
            targets: Collated targets.

        Returns:
            Both, mixed; the default changes nothing.
        """
        return images, targets

    def collate(self, targets: list[Any]) -> Any:
        """Make one batch of targets; tensors in it are moved to the device with the images.

        Args:
            targets: One per sample.

        Returns:
            What the loss and the metrics take. The default stacks tensors and arrays and makes
            tensors of numbers, also within tuples and dicts; Python's floats, and all of double
            precision, become float32, as networks compute.
        """
        return pytree.tree_map_only(Tensor, _single_precision, default_collate(targets))

    def batch_sampler(
        self, samples: Samples, batch_size: int, processes: int, *, seed: int, epoch: int
    ) -> list[list[list[int]]] | None:
        """Deal the training samples of one epoch into batches, where chance alone does not serve.

        Override it where a loss needs certain samples in one batch, such as several of one kind.
        What it gives must depend on the arguments alone: a resumed run asks again.

        Args:
            samples: The training samples.
            batch_size: Samples per batch and process.
            processes: Processes that share each batch.
            seed: Seed of the run.
            epoch: Epoch of the run, from 0.

        Returns:
            For each batch one list of sample positions for each process; or ``None`` to deal all
            samples at random.
        """
        return None

    # ---- model ----

    @abstractmethod
    def build_head(self, backbone: Backbone) -> nn.Module:
        """Make the module that maps ``Features`` to outputs.

        Args:
            backbone: Gives ``info.channels``, ``info.strides`` and ``info.embedding_dim``.

        Returns:
            A module whose ``forward(features)`` returns a tensor, or a tuple or dict of tensors,
            and changes none of the features in place.
        """

    @abstractmethod
    def build_loss(self) -> nn.Module:
        """Make the loss.

        Returns:
            A module whose ``forward(outputs, targets)`` returns scalar parts by name; their sum is
            minimized. Every part is a mean over the samples of the batch, so that gradient
            accumulation and several processes give what one large batch gives; a loss that compares
            samples with each other is declared by ``loss_over_pairs`` instead. Parameters and
            buffers of the loss are trained, checkpointed and resumed, and never exported.
        """

    def training_step(self, network: Network, batch: Batch) -> dict[str, Tensor]:
        """Compute the loss parts of one batch; override it for unusual training.

        Args:
            network: Gives ``backbone``, ``head`` and ``loss``.
            batch: Images, targets and original sizes, on the device.

        Returns:
            Scalars by name.
        """
        parts: dict[str, Tensor] = network.loss(
            network.head(network.backbone(batch.images)), batch.targets
        )
        return parts

    def inference_step(self, network: Network | InferenceGraph, images: Tensor) -> Any:
        """Compute outputs in evaluation, prediction and export; override it for several looks.

        A task that looks at an image more than once, as at its mirror image, joins the outputs
        here, with torch operators only.

        Args:
            network: Gives ``backbone`` and ``head``.
            images: float (N, C, height, width), preprocessed.

        Returns:
            What ``decode`` takes.
        """
        return network.head(network.backbone(images))

    # ---- results ----

    @abstractmethod
    def decode(self, outputs: Any, sizes: Tensor) -> Decoded:
        """Turn head outputs into final predictions, with torch operators only.

        This runs in evaluation, prediction and inside the exported file. Real-valued results are
        floats; decisions (class ids, counts, label maps) are integers.

        Args:
            outputs: What the head returned; those named in ``full_resolution_outputs`` as (N, C, H, W).
            sizes: int64 (N, 2), original height and width of each image in pixels.

        Returns:
            Named tensors, each with the batch as first dimension; a batch may hold any number of
            images, even none, and what one image gives does not depend on the others.
        """

    @abstractmethod
    def build_metrics(self) -> Metrics:
        """Make an empty metrics object."""

    @abstractmethod
    def predictions(self, decoded: Arrays) -> list[Any]:
        """Give one typed prediction per image, with label names.

        Args:
            decoded: What ``decode`` gave, as arrays.

        Returns:
            One object per image that ``dataclasses.asdict`` can turn into JSON values. What is
            too large for that, such as a mask, it may offer by a method ``files()``, as a dict of
            contents (bytes) by what their names end with; prediction writes them into the folder
            that its images go to. What it says in one line it may offer by a method ``summary()``;
            else the command line shows its fields that are texts and numbers.
        """

    def after_training(self, results: Mapping[str, Any]) -> Self:
        """Take over what the finished training has shown, such as a threshold of decisions.

        Args:
            results: What ``Metrics.compute`` gave of the best epoch.

        Returns:
            The task of the trained model; head and ``decode`` stay as they are.
        """
        return self

    def model_methods(self) -> Mapping[str, Callable[..., Any]]:
        """Give what else a model of this task can do, besides predicting.

        Returns:
            Functions by name, each of which takes the model first: with
            ``{"count": count_cells}``, ``model.count(images)`` is ``count_cells(model, images)``.
            None may have the name of anything that every model has.
        """
        return {}

    def draw(self, image: PillowImage.Image, prediction: Any) -> PillowImage.Image:
        """Show a prediction on its image; the default returns the image as it is."""
        return image

    def compare(self, reference: Arrays, candidate: Arrays) -> Disagreement:
        """Measure how far exported outputs are from PyTorch's, for images of one batch.

        The default compares floats by relative difference and counts differing integers as flips.

        Args:
            reference: PyTorch's decoded outputs.
            candidate: The exported file's.

        Returns:
            The disagreement; infinite where names, shapes or finiteness differ.
        """
        return compare_arrays(reference, candidate)

    def rescaled(self, decoded: Arrays, size: tuple[int, int], wanted: tuple[int, int]) -> Arrays:
        """Bring results for images of one size to another size of the same images.

        A file that takes images of one size only is measured this way, since targets belong to
        the images at their own. Override it where results are places in pixels.

        Args:
            decoded: What ``decode`` gave, as arrays.
            size: Height and width that the images had for it.
            wanted: Height and width to bring them to.

        Returns:
            The results. The default changes maps alone, of tasks with ``full_resolution_outputs``, by the
            nearest pixel.
        """
        return at_size(decoded, size, wanted) if self.full_resolution_outputs else decoded

    def operators(self, exporter: str) -> Mapping[Any, Callable[..., Any]]:
        """Give an exporter its form of operators that the task made with ``torch.library``.

        Args:
            exporter: Name of the exporter, such as ``"onnx"``, which takes functions of onnxscript.

        Returns:
            The exporter's form by operator, such as ``torch.ops.my.op.default``.
        """
        return {}

    def metadata(self) -> dict[str, Any]:
        """Give what a deployer must know, such as ``{"labels": [...]}``, as JSON values."""
        return {}

    # ---- for checks ----

    def example_data(self, folder: Path, count: int, seed: int) -> Any:
        """Make a small dataset that can be learned, for ``visiongraft.testing`` to try the task on.

        The images are small (about 20 to 60 pixels a side), of several sizes, not all square, and
        show clearly what is asked for. Where a target may be empty (no label, no box), some are.

        Args:
            folder: An empty folder to write into, if the data are files.
            count: How many images, at least 8.
            seed: Another seed gives other images, of the same labels.

        Returns:
            What ``read`` and ``read_labeled`` take, without parts of its own.

        Raises:
            PluginError: The task makes none.
        """
        raise PluginError(
            f"task {self.name!r} has no example data to be checked with; write "
            f"{type(self).__name__}.example_data(folder, count, seed)"
        )

    def ideal(self, targets: Any) -> Arrays | None:
        """Give the decoded results of a model that is always right, for ``visiongraft.testing``.

        Args:
            targets: What ``collate`` made.

        Returns:
            Arrays such as ``decode`` gives, or ``None`` if there is no such thing.
        """
        return None

    # ---- options ----

    def options(self) -> dict[str, Any]:
        """Give the fields as JSON values; ``create_task`` accepts them."""
        return asdict(self)


def create_task(kind: type[AnyTask], options: Mapping[str, Any]) -> AnyTask:
    """Make a task from options, as read from a file or a command line.

    Args:
        kind: The task's class.
        options: Values by field name; lists become tuples, also within others.

    Returns:
        The task.

    Raises:
        OptionError: An option is unknown or missing, or its value is refused.
    """
    known = [f.name for f in fields(kind)]
    for name in options:
        if name not in known:
            raise OptionError(
                f"task {kind.name!r} has no option {name!r}{near_matches(name, known)}"
            )
    for field in fields(kind):
        required = field.default is MISSING and field.default_factory is MISSING and field.init
        if required and field.name not in options:
            raise OptionError(f"task {kind.name!r} needs its option {field.name!r}")
    return kind(**{name: _with_tuples(value) for name, value in options.items()})


def with_options(task: AnyTask, **changes: Any) -> AnyTask:
    """Copy a task with some fields changed."""
    return replace(task, **changes)


def _single_precision(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.float64 else tensor


def _with_tuples(value: Any) -> Any:
    """Undo what JSON makes of the tuples in a value."""
    if isinstance(value, (list, tuple)):
        return tuple(_with_tuples(v) for v in value)
    if isinstance(value, dict):
        return {k: _with_tuples(v) for k, v in value.items()}
    return value


def names_of(kinds: Sequence[type[Task]]) -> list[str]:
    """List the names of task classes."""
    return [kind.name for kind in kinds]
