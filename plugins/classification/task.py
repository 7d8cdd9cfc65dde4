"""Image classification as a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import one_hot

from visiongraft.backbone import Backbone, Features
from visiongraft.data.labels import balanced_weights
from visiongraft.data.samples import EvaluationSplit, Samples, Splits
from visiongraft.errors import DataError, OptionError
from visiongraft.extra_outputs import ExtraOutput
from visiongraft.options import (
    bound_class_names,
    check_choice,
    check_class_names,
    check_class_weights,
    check_flag,
    check_fraction,
    check_integer,
    is_number,
)
from visiongraft.plugins.classification.activation_map import class_activation_maps
from visiongraft.plugins.classification.closed_form import linear_classifier
from visiongraft.plugins.classification.data import (
    LabeledSamples,
    check_trainable,
    ids_of,
    read_evaluation,
    read_splits,
)
from visiongraft.plugins.classification.example import write_folder, write_table
from visiongraft.plugins.classification.head import ClassificationHead
from visiongraft.plugins.classification.loss import (
    BinaryCrossEntropy,
    CrossEntropy,
    balanced_positive_weights,
)
from visiongraft.plugins.classification.metrics import (
    ClassificationMetrics,
    MultiLabelMetrics,
    SingleLabelMetrics,
)
from visiongraft.plugins.classification.mixing import mix_batch
from visiongraft.plugins.classification.prediction import (
    Classified,
    MultiClassified,
    predictions,
)
from visiongraft.plugins.classification.prompt_learning import learn_prompts
from visiongraft.plugins.classification.thresholds import group_thresholds
from visiongraft.plugins.classification.tip_adapter import tip_adapter
from visiongraft.plugins.whole_images.transforms import AUGMENTATIONS, TrainTransform
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import Arrays, Decoded, HeadFit, Task, TaskExamples, Transform
from visiongraft.task_contract.class_rows import ClassRows, find_class_rows
from visiongraft.task_contract.explained import Explained, explain_logits
from visiongraft.task_contract.text_head import TextHead

HEAD_STARTS = ("closed_form", "random")
KNOWN_TO_START = {"build_head", "build_classifier", "collate"}  # what `start_head` relies on
THRESHOLD = 0.5  # of the probability from which a multi-label class is predicted


@dataclass(frozen=True)
class Classification(Task):
    """Classify images: one class per image, or several.

    The headline metric is accuracy for single-label data and mean average precision for
    multi-label data.

    Attributes:
        class_names: Class names by id; taken from the training data if empty.
        multi_label: Whether an image can have any number of labels. ``None`` infers it from the
            data: multi-label if any image has several labels or none.
        hidden: Width of a hidden layer in the head; 0 for a linear head.
        dropout: Dropout probability before the last layer, in [0, 1).
        projection: Width of a linear layer before the head, such as that from images to the space of
            texts; 0 for none.
        normalize: Whether the input of the last layer is scaled to length 1, as where images are
            compared with texts by cosines.
        cached: Number of labeled images in the head, which ``model.tip_adapter`` sets.
        head_start: ``"closed_form"`` starts a linear head of a single-label model on a pretrained
            backbone from a linear classifier fitted to its features; ``"random"`` from small weights.
        label_smoothing: Fraction of each target that is spread over all classes, in [0, 1).
        class_weights: Weight of each class in the loss, in the order of ``class_names``, or
            ``"balanced"`` for weights computed from the training images. For multi-label data it
            weighs positive targets only.
        augment: ``"none"``, ``"light"`` (crop, flip, slight changes of color) or ``"strong"``
            (smaller crops, and RandAugment).
        flip: Whether augmentation flips images horizontally, which can change their meaning.
        mixup: Parameter of mixup's Beta distribution, such as 0.2; 0 for none.
        cutmix: Parameter of CutMix's Beta distribution, such as 1; 0 for none.
        loss_weights: The weights that ``bind`` computes from ``class_weights``.
    """

    name: ClassVar[str] = "classification"
    pipeline_tag: ClassVar[str] = "image-classification"
    whole_image_targets: ClassVar[bool] = True
    splits_alike: ClassVar[bool] = True

    class_names: tuple[str, ...] = ()
    multi_label: bool | None = None
    hidden: int = 0
    dropout: float = 0.0
    projection: int = 0
    normalize: bool = False
    cached: int = 0
    head_start: Literal["closed_form", "random"] = "closed_form"
    label_smoothing: float = 0.0
    class_weights: Literal["balanced"] | tuple[float, ...] | None = None
    augment: Literal["none", "light", "strong"] = "light"
    flip: bool = True
    mixup: float = 0.0
    cutmix: float = 0.0
    loss_weights: tuple[float, ...] = ()

    @property
    def headline(self) -> str:  # type: ignore[override]
        return "mean_average_precision" if self.multi_label else "accuracy"

    def __post_init__(self) -> None:
        for name in ("class_names", "class_weights", "loss_weights"):
            if isinstance(getattr(self, name), list):  # as users write them
                object.__setattr__(self, name, tuple(getattr(self, name)))
        check_class_names(self.class_names)
        if not isinstance(self.multi_label, bool | None):
            raise OptionError(f"multi_label={self.multi_label!r} is not true, false or none")
        check_flag("flip", self.flip)
        check_flag("normalize", self.normalize)
        check_integer("hidden", self.hidden, least=0)
        check_integer("projection", self.projection, least=0)
        check_integer("cached", self.cached, least=0)
        check_fraction("dropout", self.dropout)
        check_choice("head_start", self.head_start, HEAD_STARTS)
        check_fraction("label_smoothing", self.label_smoothing)
        self._check_augmentation()
        if self.class_weights not in (None, "balanced"):
            check_class_weights("class_weights", self.class_weights, len(self.class_names))
        check_class_weights("loss_weights", self.loss_weights, len(self.class_names))

    def _check_augmentation(self) -> None:
        check_choice("augment", self.augment, AUGMENTATIONS)
        for name in ("mixup", "cutmix"):
            value = getattr(self, name)
            if not is_number(value) or value < 0:
                raise OptionError(f"{name}={value!r} is not a non-negative number")
            if value and self.augment == "none":
                raise OptionError(f"{name}={value} needs augmentation; set augment='light'")

    # ---- data ----

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        return read_splits(
            data,
            class_names=self.class_names,
            multi_label=self.multi_label,
            validation=validation,
            seed=seed,
        )

    def read_evaluation(self, data: Any) -> EvaluationSplit:
        return read_evaluation(data, bound_class_names(self.class_names), bool(self.multi_label))

    def bind(self, train: Samples) -> Classification:
        """Set the class names, the kind and the loss weights from the training data.

        Args:
            train: Training samples returned by ``read``.

        Returns:
            The task to train.

        Raises:
            DataError: The samples do not come from ``read``, or have fewer than two classes.
            OptionError: The number of class weights is not the number of classes.
        """
        if not isinstance(train, LabeledSamples):
            raise DataError(f"bind takes samples returned by read(), not {type(train).__name__}")
        check_trainable(train)
        return replace(
            self,
            class_names=train.class_names,
            multi_label=train.multi_label,
            loss_weights=_loss_weights(self.class_weights, train),
        )

    def train_transform(self, preprocess: PreprocessConfig) -> Transform | None:
        if self.augment == "none":
            return None
        return TrainTransform(preprocess.size, self.augment, self.flip)

    def mix(self, images: Tensor, targets: Any) -> tuple[Tensor, Any]:
        count = len(bound_class_names(self.class_names))
        return mix_batch(images, targets, classes=count, mixup=self.mixup, cutmix=self.cutmix)

    def collate(self, targets: list[Any]) -> Tensor:
        """Collate targets into a batch.

        Args:
            targets: Class ids or, for multi-label data, tuples of them.

        Returns:
            int64 (N,) or, for multi-label data, multi-hot float32 (N, C).
        """
        if not self.multi_label:
            return torch.tensor(targets, dtype=torch.int64)
        multi_hot = torch.zeros(len(targets), len(bound_class_names(self.class_names)))
        for row, target in zip(multi_hot, targets, strict=True):
            row[list(ids_of(target))] = 1
        return multi_hot

    # ---- model ----

    def build_head(self, backbone: Backbone) -> nn.Module:
        return self.build_classifier(backbone.info.embedding_dim)

    def build_classifier(self, inputs: int) -> ClassificationHead:
        """Create the head on embeddings of a dimension."""
        return ClassificationHead(
            inputs,
            len(bound_class_names(self.class_names)),
            self.hidden,
            self.dropout,
            self.projection,
            self.normalize,
            self.cached,
        )

    def class_rows(self, backbone: Backbone) -> Mapping[str, ClassRows | None] | None:
        return find_class_rows(replace(self, class_weights=None, loss_weights=()), backbone)

    @property
    def learned_from_targets(self) -> str:
        return "class_weights='balanced'" if self.class_weights == "balanced" else ""

    @property
    def starts_head(self) -> bool:
        """Whether the head is linear and each image has one class, unless options ask for a random start.

        A subclass with a head or targets of its own has to define ``start_head`` as well.
        """
        kinds = type(self).__mro__
        known = next(kind for kind in kinds if "start_head" in vars(kind))
        if any(vars(kind).keys() & KNOWN_TO_START for kind in kinds[: kinds.index(known)]):
            return False
        layers = self.hidden or self.projection
        return self.head_start == "closed_form" and not (self.multi_label or layers)

    @property
    def refits_head(self) -> bool:
        """Whether it starts in closed form, unless it has cached images or a subclass trains it in another way."""
        own, known = type(self), Classification
        alike = (own.build_loss, own.training_step) == (known.build_loss, known.training_step)
        return self.starts_head and alike and not self.cached

    def start_head(
        self,
        head: nn.Module,
        samples: Iterable[tuple[Features, Tensor]],
        first: HeadFit | None = None,
    ) -> HeadFit:
        """Start from a linear classifier in closed form.

        One that is fitted anew is no more certain than the first: by then the network has seen the images, and
        what it does with left-out ones says little of new ones.
        """
        pairs = [
            (features.pooled.cpu().numpy(), labels.cpu().numpy()) for features, labels in samples
        ]
        embeddings, labels = (np.concatenate(values) for values in zip(*pairs, strict=True))
        if self.normalize:
            lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
            embeddings = embeddings / np.maximum(lengths, 1e-12)
        count = len(bound_class_names(self.class_names))
        highest = None if first is None else first.facts.get("factor")
        layer = linear_classifier(embeddings, labels, count, highest)
        bias = layer.bias
        if self.loss_weights:  # they multiply the odds of a class
            bias = bias + np.log(np.maximum(self.loss_weights, 1e-6))
        assert isinstance(head, ClassificationHead)
        head.output.weight.copy_(torch.from_numpy(layer.weight))
        head.output.bias.copy_(torch.from_numpy(bias))
        return HeadFit(layer.accuracy, {"factor": layer.factor})

    def with_text_head(self, class_names: Sequence[str], text: TextHead) -> Classification:
        if self.hidden:
            raise OptionError(f"hidden={self.hidden} has no meaning if texts are the classifier")
        if self.multi_label and not text.bias.any():
            raise OptionError(
                "multi_label=True needs an encoder that was trained to tell matching pairs of image and text "
                "from others one by one, such as SigLIP's; the logits of this one are comparable only with "
                "each other"
            )
        width = 0 if text.projection is None else len(text.projection)
        return replace(
            self,
            class_names=tuple(class_names),
            multi_label=bool(self.multi_label),
            projection=width,
            normalize=True,
            cached=0,
        )

    def set_text_head(self, head: nn.Module, text: TextHead) -> None:
        """Copy the vectors of texts into the last layer, and the projection of images into the first."""
        assert isinstance(head, ClassificationHead)
        head.output.weight.copy_(torch.from_numpy(text.weight))
        head.output.bias.copy_(torch.from_numpy(text.bias))
        if text.projection is not None:
            assert isinstance(head.projection, nn.Linear)
            offset = np.zeros(len(text.projection)) if text.offset is None else text.offset
            head.projection.weight.copy_(torch.from_numpy(text.projection))
            head.projection.bias.copy_(torch.from_numpy(offset))

    def open_inputs(self) -> Mapping[str, str]:
        """Return the last layer of a head that compares vectors, unless it holds images of its classes."""
        if not self.normalize or self.cached:
            return {}
        return {"class_vectors": "output.weight", "class_biases": "output.bias"}

    def build_loss(self) -> nn.Module:
        loss = BinaryCrossEntropy if self.multi_label else CrossEntropy
        return loss(self.label_smoothing, self.loss_weights)

    def class_logits(self, outputs: Tensor) -> Tensor | None:
        """Return the logits, unless an image can have several classes."""
        return None if self.multi_label else outputs

    def extra_outputs(self) -> Mapping[str, ExtraOutput]:
        """Return ``cam``, the class activation map of each class."""
        return {"cam": class_activation_maps}

    def explained(
        self, outputs: Tensor, sizes: Tensor, wanted: str | None = None
    ) -> Sequence[Explained]:
        """Return the predicted class; for a multi-label model the most probable one."""
        names = list(bound_class_names(self.class_names))
        return list(explain_logits(lambda logits: logits, outputs, names, wanted))

    # ---- results ----

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        """Convert logits to probabilities and predicted classes.

        Args:
            outputs: (N, C) logits.
            sizes: Not used.

        Returns:
            ``probabilities``, float32 (N, C), and ``labels``: the most probable class id, int64
            (N,), the first of equal ones; for a multi-label model int64 (N, C), 1 where the
            probability is at least 0.5.
        """
        logits = outputs.to(torch.float32)
        if self.multi_label:
            probabilities = logits.sigmoid()
            return {
                "probabilities": probabilities,
                "labels": (probabilities >= THRESHOLD).to(torch.int64),
            }
        probabilities = logits.softmax(dim=1)
        return {"probabilities": probabilities, "labels": probabilities.argmax(dim=1)}

    def mistakes(self, decoded: Arrays, targets: Tensor) -> NDArray[np.float64]:
        """Rate wrong images by how improbable their true classes are; right ones are 0."""
        probabilities = np.asarray(decoded["probabilities"], np.float64)
        true = targets.numpy()
        if self.multi_label:
            wrong = (decoded["labels"] != true).any(axis=1)
            return np.where(wrong, np.abs(probabilities - true).max(axis=1), 0.0)
        own = np.take_along_axis(probabilities, true[:, None], axis=1)[:, 0]
        return np.where(decoded["labels"] != true, 1 - own, 0.0)

    def metric_inputs(self, name: str, decoded: Arrays, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities (N, C), and class ids (N,) or multi-hot labels (N, C)."""
        return torch.as_tensor(decoded["probabilities"]), targets.to(torch.int64)

    def build_metrics(self) -> ClassificationMetrics:
        metrics = MultiLabelMetrics if self.multi_label else SingleLabelMetrics
        return metrics(bound_class_names(self.class_names))

    def predictions(self, decoded: Arrays) -> list[Classified | MultiClassified]:
        return predictions(decoded, self.metadata())

    def model_methods(self) -> Mapping[str, Callable[..., Any]]:
        return {
            "tip_adapter": tip_adapter,
            "learn_prompts": learn_prompts,
            "group_thresholds": group_thresholds,
        }

    def metadata(self) -> dict[str, Any]:
        return {"class_names": list(self.class_names), "multi_label": bool(self.multi_label)}

    def examples(self) -> TaskExamples:
        write = write_table if self.multi_label else write_folder
        return TaskExamples(partial(write, class_names=self.class_names), self._ideal)

    def _ideal(self, targets: Tensor) -> Arrays:
        labels = targets.to(torch.int64)
        present = (
            labels
            if self.multi_label
            else one_hot(labels, len(bound_class_names(self.class_names)))
        )
        return {"probabilities": present.to(torch.float32).numpy(), "labels": labels.numpy()}


def _loss_weights(
    class_weights: Sequence[float] | str | None, train: LabeledSamples
) -> tuple[float, ...]:
    if not class_weights:
        return ()
    if class_weights == "balanced":
        if train.multi_label:
            return balanced_positive_weights(train.counts(), len(train))
        return balanced_weights(train.counts())
    return tuple(float(weight) for weight in class_weights)
