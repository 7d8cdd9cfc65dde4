"""Image classification as a task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from visiongraft.backbone import Backbone
from visiongraft.data.samples import Samples, Splits
from visiongraft.errors import DataError, OptionError, near_matches
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
    balanced_weights,
)
from visiongraft.plugins.classification.prediction import (
    Classified,
    MultiClassified,
    predictions,
)
from visiongraft.plugins.classification.transforms import (
    AUGMENTATIONS,
    TrainTransform,
    mix_batch,
)
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import Arrays, Decoded, Task, TaskExamples, Transform

if TYPE_CHECKING:
    from visiongraft.plugins.classification.metrics import ClassificationMetrics

THRESHOLD = 0.5  # of a multi-label decision


@dataclass(frozen=True)
class Classification(Task):
    """Say which label an image has, or which labels.

    Single-label results are measured by accuracy, multi-label ones by mean average precision.

    Attributes:
        labels: Label names by class id; made from the training data if empty.
        multi_label: Whether an image has any number of labels. ``None`` decides by the data:
            multi-label if any image has several labels or none.
        hidden: Width of a hidden layer in the head; 0 for a linear head.
        dropout: Share of the last layer's inputs that is dropped in training, in [0, 1).
        label_smoothing: Share of each target that is spread over all labels, in [0, 1).
        class_weights: Factor for each label's term in the loss, in the order of ``labels``, or
            ``"balanced"`` by the training images. Of multi-label data it weighs presence only.
        augment: ``"none"``, ``"light"`` (crop, flip, slight changes of color) or ``"strong"``
            (smaller crops, and RandAugment).
        flip: Whether augmentation mirrors images, which changes the meaning of some.
        mixup: Parameter of mixup's Beta distribution, such as 0.2; 0 for none.
        cutmix: Parameter of CutMix's Beta distribution, such as 1; 0 for none.
        loss_weights: What ``bind`` makes of ``class_weights``.
    """

    name: ClassVar[str] = "classification"

    labels: tuple[str, ...] = ()
    multi_label: bool | None = None
    hidden: int = 0
    dropout: float = 0.0
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
        for name in ("labels", "class_weights", "loss_weights"):
            if isinstance(getattr(self, name), list):  # as people write them
                object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_labels()
        if not isinstance(self.multi_label, bool | None):
            raise OptionError(f"multi_label={self.multi_label!r} is neither true, false nor none")
        if not isinstance(self.flip, bool):
            raise OptionError(f"flip={self.flip!r} is neither true nor false")
        if not isinstance(self.hidden, int) or isinstance(self.hidden, bool) or self.hidden < 0:
            raise OptionError(f"hidden={self.hidden!r} is no whole number of 0 or more")
        for name in ("dropout", "label_smoothing"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value < 1:
                raise OptionError(f"{name}={value!r} is not in [0, 1)")
        self._check_augmentation()
        self._check_weights("class_weights", self.class_weights)
        self._check_weights("loss_weights", self.loss_weights)

    def _check_labels(self) -> None:
        names = self.labels
        if not isinstance(names, tuple) or not all(isinstance(n, str) and n for n in names):
            raise OptionError(f"labels={names!r} is no list of names")
        if len(set(names)) != len(names):
            raise OptionError(f"labels={names!r} holds a name twice")

    def _check_augmentation(self) -> None:
        if self.augment not in AUGMENTATIONS:
            known = near_matches(str(self.augment), AUGMENTATIONS)
            raise OptionError(f"augment={self.augment!r} is unknown{known}")
        for name in ("mixup", "cutmix"):
            value = getattr(self, name)
            if not _is_number(value) or value < 0:
                raise OptionError(f"{name}={value!r} is no number of 0 or more")
            if value and self.augment == "none":
                raise OptionError(f"{name}={value} needs augmentation; set augment='light'")

    def _check_weights(self, name: str, weights: Any) -> None:
        if weights is None or (weights == "balanced" and name == "class_weights"):
            return
        if not isinstance(weights, tuple) or not all(_is_number(w) and w >= 0 for w in weights):
            raise OptionError(f"{name}={weights!r} is neither 'balanced' nor numbers of 0 or more")
        if name == "class_weights" and weights and not any(weights):
            raise OptionError(f"{name}={weights!r} would train nothing; some must be above 0")
        if weights and self.labels and len(weights) != len(self.labels):
            raise OptionError(f"{name} has {len(weights)} numbers for {len(self.labels)} labels")

    # ---- data ----

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        return read_splits(
            data,
            labels=self.labels,
            multi_label=self.multi_label,
            validation=validation,
            seed=seed,
        )

    def read_evaluation(self, data: Any) -> Samples:
        return read_evaluation(data, self._known_labels(), bool(self.multi_label))

    def bind(self, train: Samples) -> Classification:
        """Take over label map and kind, and weigh the labels.

        Args:
            train: Training samples that ``read`` found.

        Returns:
            The task to train.

        Raises:
            DataError: The samples are others, or there is nothing to tell apart.
            OptionError: There are more or fewer class weights than labels.
        """
        if not isinstance(train, LabeledSamples):
            raise DataError(f"bind takes samples that read() found, not {type(train).__name__}")
        check_trainable(train)
        return replace(
            self,
            labels=train.labels,
            multi_label=train.multi_label,
            loss_weights=_loss_weights(self.class_weights, train),
        )

    def train_transform(self, preprocess: PreprocessConfig) -> Transform | None:
        if self.augment == "none":
            return None
        return TrainTransform(preprocess.size, self.augment, self.flip)

    def mix(self, images: Tensor, targets: Any) -> tuple[Tensor, Any]:
        count = len(self._known_labels())
        return mix_batch(images, targets, labels=count, mixup=self.mixup, cutmix=self.cutmix)

    def collate(self, targets: list[Any]) -> Tensor:
        """Make one batch of targets.

        Args:
            targets: Class ids, or of multi-label data tuples of them.

        Returns:
            int64 (N,), or of multi-label data float32 (N, C) of 0 and 1.
        """
        if not self.multi_label:
            return torch.tensor(targets, dtype=torch.int64)
        marks = torch.zeros(len(targets), len(self._known_labels()))
        for row, target in zip(marks, targets, strict=True):
            row[list(ids_of(target))] = 1
        return marks

    # ---- model ----

    def build_head(self, backbone: Backbone) -> nn.Module:
        return ClassificationHead(
            backbone.info.embedding_dim, len(self._known_labels()), self.hidden, self.dropout
        )

    def build_loss(self) -> nn.Module:
        kind = BinaryCrossEntropy if self.multi_label else CrossEntropy
        return kind(self.label_smoothing, self.loss_weights)

    # ---- results ----

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        """Turn logits into probabilities and decisions.

        Args:
            outputs: (N, C) logits.
            sizes: Not used.

        Returns:
            ``probabilities``, float32 (N, C), and ``labels``: int64 (N,), the most probable class
            id (the first of equal ones), or of a multi-label model int64 (N, C), 1 where the
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

    def build_metrics(self) -> ClassificationMetrics:
        # torchmetrics takes seconds to import, and prediction needs none of it.
        from visiongraft.plugins.classification.metrics import MultiLabelMetrics, SingleLabelMetrics

        kind = MultiLabelMetrics if self.multi_label else SingleLabelMetrics
        return kind(self._known_labels())

    def predictions(self, decoded: Arrays) -> list[Classified | MultiClassified]:
        return predictions(decoded, self.metadata())

    def metadata(self) -> dict[str, Any]:
        return {"labels": list(self.labels), "multi_label": bool(self.multi_label)}

    def examples(self) -> TaskExamples:
        return TaskExamples(self._write_examples, self._ideal)

    def _write_examples(self, folder: Path, count: int, seed: int) -> Path:
        write = write_table if self.multi_label else write_folder
        return write(folder, self.labels, count, seed)

    def _ideal(self, targets: Tensor) -> Arrays:
        labels = targets.to(torch.int64)
        present = labels if self.multi_label else one_hot(labels, len(self._known_labels()))
        return {"probabilities": present.to(torch.float32).numpy(), "labels": labels.numpy()}

    def _known_labels(self) -> tuple[str, ...]:
        if not self.labels:
            raise OptionError("the task has no label names yet; read() and bind() find them")
        return self.labels


def _loss_weights(wanted: Sequence[float] | str | None, train: LabeledSamples) -> tuple[float, ...]:
    if wanted is None or not wanted:
        return ()
    if wanted == "balanced":
        if train.multi_label:
            return balanced_positive_weights(train.counts(), len(train))
        return balanced_weights(train.counts())
    return tuple(float(weight) for weight in wanted)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
