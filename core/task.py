"""The contract of a task: what a plugin supplies; the core supplies everything else.

The core calls these methods in this order::

    splits  = task.read(data)                       # find samples and targets
    task    = task.bind(splits.train)               # a copy that knows class names and the like
    head    = task.build_head(backbone)             # Features -> outputs
    loss    = task.build_loss()                     # outputs, targets -> named loss parts; may take the backbone
    image, target = task.train_transform(preprocess)(image, target)      # per training sample
    targets = task.collate([target, ...])           # per batch
    losses  = task.training_step(network, batch)
    outputs = task.inference_step(network, images)  # evaluation, prediction and export alike
    decoded = task.decode(outputs, sizes)
    metrics.update(decoded, targets); metrics.compute()
    predictions = task.predictions(decoded)         # typed, one per image
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, TypeVar

from torch import Tensor, float32, float64, nn
from torch.utils import _pytree as pytree
from torch.utils.data import default_collate

from visiongraft.comparison import Arrays, Disagreement, compare_arrays
from visiongraft.data.samples import EvaluationSplit, Samples, Splits, Transform
from visiongraft.errors import OptionError, VisiongraftError
from visiongraft.inputs import IMAGES, Inputs
from visiongraft.loss_parts import LossParts
from visiongraft.options import refuse_unknown
from visiongraft.task_contract.head_fit import HeadFit
from visiongraft.task_contract.optional import OptionalMethods
from visiongraft.task_contract.support import ExportSupport, TaskExamples, find_class_logits

if TYPE_CHECKING:
    from visiongraft.backbone import Backbone, Features
    from visiongraft.preprocess import PreprocessConfig

__all__ = [
    "AnyTask",
    "Arrays",
    "Decoded",
    "Disagreement",
    "ExportSupport",
    "HeadFit",
    "LossParts",
    "Metrics",
    "Task",
    "TaskExamples",
    "Transform",
    "compare_arrays",
    "create_task",
    "required_options",
]

Decoded = dict[str, Tensor]
AnyTask = TypeVar("AnyTask", bound="Task")


class Metrics(Protocol):
    """Measures predictions over a whole dataset."""

    def update(self, decoded: Arrays, targets: Any) -> None:
        """Accumulate one batch.

        Args:
            decoded: The output of ``Task.decode`` as numpy arrays, from PyTorch or from an exported
                file.
            targets: The output of ``Task.collate``, on the CPU.
        """

    def compute(self) -> dict[str, Any]:
        """Compute the results of all batches so far.

        Returns:
            JSON values by name. Scalars are floats; per-class results and tables are nested.
            ``Task.headline`` is among them.
        """


@dataclass(frozen=True)
class Task(OptionalMethods, ABC):
    """Base class of all tasks; subclasses are frozen dataclasses whose fields are the task's options.

    Fields are JSON values only (numbers, strings, booleans, ``None``, tuples and dicts of them): they
    are written to ``config.json`` and passed to the constructor on load. What is learned from the
    dataset before training, such as class names, is a field too, filled in by ``bind``.

    A minimal task defines ``name`` and ``headline``, ``read`` and ``read_evaluation``,
    ``build_head``, ``build_loss``, ``decode``, ``build_metrics`` and ``predictions``. Most tasks also
    override ``bind``, ``train_transform``, ``collate``, ``metadata`` and ``examples``. The others are
    rarely needed, above all those of ``OptionalMethods``.

    Attributes:
        name: The name by which users select the task.
        headline: Name of the metric that selects the best epoch. If it depends on an option, define
            a property of this name; so for the attributes below.
        inputs: What its samples are, from files to the network; see ``visiongraft.inputs``. If it
            depends on options, define a property.
        better: Whether a higher or a lower headline is better.
        bounds: Lowest and highest possible headline. ``None`` means 0 to 1 if higher is better,
            otherwise 0 and above.
        resize: Default of the ``resize`` setting: ``"stretch"`` if targets are positions, which a
            crop would cut off; ``None`` leaves the choice to the backbone.
        input_size: Default height and width of the network input in pixels; ``None`` leaves the
            choice to the backbone.
        loss_over_pairs: Whether the loss compares the samples of a batch with each other, as triplet
            and contrastive losses do, so that its parts are not means over samples. Pairs are formed
            within one forward pass of one process: gradient accumulation and further processes add
            more such passes, but do not make them larger.
        metrics_over_pairs: Whether metrics compare samples with each other, so that results have no meaning where a
            sample appears twice, as in a bootstrap.
        adversarial: Whether parts of the loss oppose each other, so that their sum need not fall.
        whole_image_targets: Whether targets are about images as wholes, as a class is and a mask is not:
            any augmentation then leaves them valid, also that of another task on the same images.
        splits_alike: Whether targets of training and validation samples mean the same, so that a sample
            can be moved from one split to the other.
        targets_in_common: Whether targets are of all samples together and of none in particular, as
            where metrics compare two sets of images.
        varying_loss_parts: Whether a batch can lack a loss part that others have, so that processes
            exchange the names of their parts.
        full_resolution_outputs: Names of head outputs (the head then returns a dict) that are maps
            (N, C, h, w) over the network input. The core resizes them to the images' original height
            and width before ``decode``, which therefore receives batches of images of one size.
        schedule_options: Options of the built-in schedules that suit the task, such as
            ``{"batch_norm": "train"}``, where the user sets none.
        streams: Names of the further datasets that ``training_step`` uses beside the training set,
            such as ``("unlabelled",)``. Users pass each by name; ``batch.streams`` holds a batch of
            each. If they depend on an option, define a property.
    """

    name: ClassVar[str]
    headline: ClassVar[str]
    inputs: ClassVar[Inputs] = IMAGES
    better: ClassVar[Literal["higher", "lower"]] = "higher"
    bounds: ClassVar[tuple[float, float] | None] = None
    resize: ClassVar[Literal["crop", "stretch", "pad"] | None] = None
    input_size: ClassVar[tuple[int, int] | None] = None
    loss_over_pairs: ClassVar[bool] = False
    metrics_over_pairs: ClassVar[bool] = False
    adversarial: ClassVar[bool] = False
    whole_image_targets: ClassVar[bool] = False
    splits_alike: ClassVar[bool] = False
    targets_in_common: ClassVar[bool] = False
    varying_loss_parts: ClassVar[bool] = False
    full_resolution_outputs: ClassVar[tuple[str, ...]] = ()
    schedule_options: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    streams: ClassVar[tuple[str, ...]] = ()

    # ---- data ----

    @abstractmethod
    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        """Find the samples of a dataset to train on, without decoding any image.

        Args:
            data: The user's argument: a path in one of the task's formats, a map-style dataset of
                (image, target), or a pair (training, validation) of either.
            validation: Fraction of the images to hold out if the dataset has no validation split, in
                (0, 1).
            seed: Seed of that split.

        Returns:
            Training and validation samples.

        Raises:
            DataError: The dataset is missing or in no format that the task reads.
        """

    @abstractmethod
    def read_evaluation(self, data: Any) -> EvaluationSplit | Samples:
        """Find the samples to evaluate a trained model on, with the classes it was trained on.

        Args:
            data: As in ``read``; of a dataset with splits the test split, otherwise the validation
                split.

        Returns:
            Samples whose targets use this task's class ids, with the name of the split and the
            warnings of the reader; or the samples alone.

        Raises:
            DataError: A sample is of an unknown class.
        """

    def claims(self, data: Any) -> bool:
        """Check whether a dataset is meant for this task, for users who name no task.

        Called on the task with its default options. Override it if the task also reads data that are
        meant for another one, as folders of classes are for classification.

        Args:
            data: As in ``read``.

        Returns:
            Whether the task claims the dataset. The default reads it, and claims what can be read.
        """
        try:
            self.read(data)
        except VisiongraftError:
            return False
        return True

    def bind(self, train: Samples) -> Self:
        """Return a copy of the task that knows the dataset, such as its class names.

        Args:
            train: The training samples, without those that cannot be read.

        Returns:
            The task to train, such as ``dataclasses.replace(self, class_names=...)``.
        """
        return self

    def train_transform(self, preprocess: PreprocessConfig) -> Transform | None:
        """Create the random augmentation of one training sample.

        Randomness must come from torch, numpy or ``random``; the core seeds all three per sample,
        epoch and view.

        Args:
            preprocess: How the network's images are prepared without augmentation.
                ``preprocess.size`` is the height and width to produce. With ``preprocess.resize ==
                "pad"`` images keep their scale, so that training should use crops at that scale.

        Returns:
            A callable from (``tv_tensors.Image`` uint8 (C, H, W), target) to (image (C, height,
            width) in 0..255, target), or ``None`` for no augmentation; clips are a
            ``tv_tensors.Video`` (T, C, H, W). It is pickled for worker processes, so it is an
            instance of a module-level class, not a lambda.
        """
        return None

    def collate(self, targets: list[Any]) -> Any:
        """Combine targets to a batch; its tensors are moved to the device with the images.

        Args:
            targets: One per sample.

        Returns:
            What the loss and the metrics accept. The default stacks tensors and arrays and converts
            numbers to tensors, also within tuples and dicts; Python floats and double precision
            become float32.
        """
        return pytree.tree_map_only(Tensor, _single_precision, default_collate(targets))

    # ---- model ----

    @abstractmethod
    def build_head(self, backbone: Backbone) -> nn.Module:
        """Create the module that maps ``Features`` to outputs.

        Args:
            backbone: Has ``info.channels``, ``info.strides`` and ``info.embedding_dim``.

        Returns:
            A module whose ``forward(features)`` returns a tensor, or a tuple or dict of tensors, and
            modifies none of the features in place.
        """

    @property
    def starts_head(self) -> bool:
        """Whether ``start_head`` computes a good start of a new head, as the task is bound to the data."""
        return False

    def start_head(
        self,
        head: nn.Module,
        samples: Iterable[tuple[Features, Any]],
        first: HeadFit | None = None,
    ) -> HeadFit | None:
        """Set the weights of a new head from features of a pretrained backbone, before the first step.

        Called if ``starts_head`` is true, such as for a linear probe in closed form. Phases of the
        built-in schedules that train the head alone then have a lower learning rate. The result may
        depend on the arguments only.

        Args:
            head: From ``build_head``; changed in place.
            samples: Batches of training images in order, as features without augmentation and
                gradients, with collated targets: all images, or a random choice of a large set. Each
                iteration computes them again.
            first: What this method returned at the start of the run, if the head is fitted anew at its end
                (see ``refits_head``): the backbone has been trained with these images since, so that they
                fit it better than others do.

        Returns:
            How well the head fits other images; ``None`` if nothing is known of it.
        """
        return None

    @property
    def refits_head(self) -> bool:
        """Whether ``start_head`` is as good an end: it replaces a trained head by one for the present features.

        Not if the head has parts that ``start_head`` leaves at what they begin with, or that training fits to
        something else than it does.
        """
        return False

    @abstractmethod
    def build_loss(self) -> nn.Module:
        """Create the loss.

        A loss that needs the backbone, such as a critic of its features or a second network that begins
        as a copy of it, is created by ``build_loss(self, backbone)``: the core passes the backbone to
        methods that take one. Backbones that the loss holds follow the schedule like the task's own: a
        phase freezes the same stages, with receipts.

        Returns:
            A module whose ``forward(outputs, targets)`` returns named scalars, whose sum is
            minimized. Each is a mean over the samples of the batch, so that gradient accumulation
            and several processes are equivalent to one large batch. A mean over anything else, such
            as the targets that are not missing, is returned as ``(sum, weight)``; a loss that
            compares samples with each other sets ``loss_over_pairs`` instead. Parameters and buffers of the loss are
            trained, checkpointed and resumed, and never exported; parameters that require no
            gradient here, as in the head, stay frozen. A loss that keeps an optimizer of its own is
            refused.
        """

    # ---- results ----

    @abstractmethod
    def decode(self, outputs: Any, sizes: Tensor) -> Decoded:
        """Convert head outputs to final results, with torch operators only.

        This runs in evaluation, in prediction and inside the exported file. Real-valued results are
        floats; decisions (class ids, counts, label maps) are integers.

        Args:
            outputs: The outputs of the head; those named in ``full_resolution_outputs`` as
                (N, C, H, W).
            sizes: int64 (N, 2), original height and width of each image in pixels.

        Returns:
            Named tensors with the batch as first dimension. N may be any number, also 0, and the
            result of one image does not depend on the others.
        """

    @abstractmethod
    def build_metrics(self) -> Metrics:
        """Create an empty metrics object."""

    @abstractmethod
    def predictions(self, decoded: Arrays) -> list[Any]:
        """Convert decoded results to typed predictions, with class names.

        Args:
            decoded: The output of ``decode`` as arrays.

        Returns:
            One object per image that ``dataclasses.asdict`` converts to JSON values. Larger contents,
            such as a mask, may be provided by a method ``files()``, as a dict from file name endings
            to bytes; prediction writes them next to the drawn images. A method ``summary()`` may
            return the line that the command line prints; by default it prints the fields that are
            strings and numbers. A method ``narrowed(score_threshold, top)`` may return the prediction
            without what is less sure. A method ``rows()`` may return dicts of plain values, the rows of a table
            of predictions; by default one row has all values. A method ``crops()`` may return the class and the
            box, x1, y1, x2, y2 in pixels, of each object, which ``save_crops`` writes as images. A method
            ``contents()`` may return the line that stands for a target, without scores.
        """

    def metadata(self) -> dict[str, Any]:
        """Return what a deployer must know, such as ``{"class_names": [...]}``, as JSON values."""
        return {}

    def examples(self) -> TaskExamples | None:
        """Return a small dataset for ``visiongraft.testing`` to check the task with, if any."""
        return None

    def options(self) -> dict[str, Any]:
        """Return the fields as JSON values; ``create_task`` accepts them."""
        return asdict(self)

    def class_logits(self, outputs: Any) -> Tensor | None:
        """Return logits of classes that exclude each other, for methods that need class probabilities.

        Args:
            outputs: What the head returned, with gradients.

        Returns:
            (N, C, ...) with C of at least 2, whose softmax over the second dimension is the
            probability of each class; ``None`` if there are none. By default the only tensor among
            the outputs that has one channel for each of ``metadata()["class_names"]``. Override it if
            an image can have several of these classes, or if that tensor holds something else.
        """
        return find_class_logits(outputs, self.metadata().get("class_names"))


def create_task(kind: type[AnyTask], options: Mapping[str, Any]) -> AnyTask:
    """Create a task from options, as read from a file or a command line.

    Args:
        kind: The task's class.
        options: Values by field name; lists become tuples, also nested ones.

    Returns:
        The task.

    Raises:
        OptionError: An option is unknown or missing, or its value is invalid.
    """
    refuse_unknown(f"task {kind.name!r}", options, [f.name for f in fields(kind)])
    for name in required_options(kind):
        if name not in options:
            raise OptionError(f"task {kind.name!r} needs its option {name!r}")
    return kind(**{name: _with_tuples(value) for name, value in options.items()})


def required_options(kind: type[Task]) -> list[str]:
    """Return the names of a task's options that have no default."""
    return [
        field.name
        for field in fields(kind)
        if field.default is MISSING and field.default_factory is MISSING and field.init
    ]


def _single_precision(tensor: Tensor) -> Tensor:
    return tensor.to(float32) if tensor.dtype == float64 else tensor


def _with_tuples(value: Any) -> Any:
    """Convert lists, which JSON uses for tuples, back to tuples."""
    if isinstance(value, (list, tuple)):
        return tuple(_with_tuples(v) for v in value)
    if isinstance(value, dict):
        return {k: _with_tuples(v) for k, v in value.items()}
    return value
