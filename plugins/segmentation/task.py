"""Semantic segmentation as a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import tv_tensors

from visiongraft.backbone import Backbone
from visiongraft.data.labels import balanced_weights
from visiongraft.data.samples import EvaluationSplit, Samples, Splits
from visiongraft.errors import DataError, OptionError
from visiongraft.options import (
    bound_class_names,
    check_choice,
    check_class_names,
    check_class_weights,
    check_flag,
    is_integer,
    is_number,
)
from visiongraft.plugins.dense.pyramid import check_input_size
from visiongraft.plugins.segmentation.compare import compare_masks
from visiongraft.plugins.segmentation.data import (
    MaskedSamples,
    check_class_count,
    read_evaluation,
    read_splits,
)
from visiongraft.plugins.segmentation.example import write_example
from visiongraft.plugins.segmentation.formats.masks import (
    IGNORED_VALUE,
    MAX_UINT8_CLASSES,
    ignored_id,
)
from visiongraft.plugins.segmentation.labels import MaskJudge
from visiongraft.plugins.segmentation.metrics import SegmentationMetrics
from visiongraft.plugins.segmentation.models.geometry import masks_at_input
from visiongraft.plugins.segmentation.options import parse_loss
from visiongraft.plugins.segmentation.prediction import Segmented, predictions
from visiongraft.plugins.segmentation.published import read_published
from visiongraft.plugins.segmentation.transforms import AUGMENTATIONS, TrainTransform
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import (
    Arrays,
    Decoded,
    ExportSupport,
    Task,
    TaskExamples,
    Transform,
)
from visiongraft.task_contract.class_rows import ClassRows, find_class_rows
from visiongraft.task_contract.published import Published

if TYPE_CHECKING:
    from visiongraft.data.batch import Batch
    from visiongraft.network import Network

KINDS = ("multi_class", "binary", "multi_label")
DECODER_NAMES = ("unet", "fpn", "deeplabv3plus", "upernet", "segformer", "fcn", "deeplabv3")
GLOBAL_POOLING = ("deeplabv3plus", "upernet", "deeplabv3")  # decoders with image-level pooling

# A new decoder is most of what is learned, and learns least on features that do not follow it.
SCHEDULE_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {"learning_rate": 1e-3, "batch_norm": "train", "probe_epochs": 0}
)


@dataclass(frozen=True)
class Segmentation(Task):
    """Classify every pixel of an image.

    The headline metric is the mean intersection over union of all classes.

    Attributes:
        class_names: Class names by id; taken from the training data if empty.
        kind: ``"multi_class"``: one class per pixel; ``"binary"``: background and foreground, with a
            single logit; ``"multi_label"``: any number of classes per pixel, each with its own
            mask. ``None`` infers it from the data.
        decoder: ``"unet"``, ``"fpn"``, ``"deeplabv3plus"``, ``"upernet"``, ``"segformer"``,
            ``"fcn"`` or ``"deeplabv3"``.
        channels: Width of the decoder; 0 for its default. A narrow decoder is faster.
        ignore: A class name or a mask value whose pixels are ignored in loss and metrics. The
            value 255 is always ignored unless it is a class, and so is a class called void,
            unlabeled or ignore unless ``class_names`` lists it.
        loss: ``"cross_entropy"`` (binary for binary and multi-label masks), ``"dice"``,
            ``"focal"``, ``"lovasz"``, or a weighted sum such as ``"0.5*focal+lovasz"``.
        class_weights: Weight of each class in the loss, in the order of ``class_names``, or
            ``"balanced"`` for weights computed from the training pixels. They do not apply to
            Lovász, nor to Dice and focal loss on binary masks.
        auxiliary: Weight of the loss of an auxiliary FCN head on the feature map before the
            deepest, used in training only; 0 for none.
        probabilities: Whether predictions and exported files include the class probabilities.
        augment: ``"none"``, ``"light"`` (zoom, flip, slight changes of color) or ``"strong"``.
        flip: Whether augmentation flips images horizontally.
        loss_weights: The weights that ``bind`` computes from ``class_weights``.
    """

    name: ClassVar[str] = "segmentation"
    pipeline_tag: ClassVar[str] = "image-segmentation"
    splits_alike: ClassVar[bool] = True
    headline: ClassVar[str] = "mean_iou"
    resize: ClassVar[Literal["crop", "stretch", "pad"] | None] = "stretch"
    full_resolution_outputs: ClassVar[tuple[str, ...]] = ("logits",)
    schedule_options: ClassVar[Mapping[str, Any]] = SCHEDULE_OPTIONS

    class_names: tuple[str, ...] = ()
    kind: Literal["multi_class", "binary", "multi_label"] | None = None
    decoder: str = "unet"
    channels: int = 0
    ignore: str | int | None = None
    loss: str = "cross_entropy"
    class_weights: Literal["balanced"] | tuple[float, ...] | None = None
    auxiliary: float = 0.0
    probabilities: bool = False
    augment: Literal["none", "light", "strong"] = "light"
    flip: bool = True
    loss_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("class_names", "class_weights", "loss_weights"):
            if isinstance(getattr(self, name), list):  # as users write them
                object.__setattr__(self, name, tuple(getattr(self, name)))
        check_class_names(self.class_names)
        check_choice("decoder", self.decoder, DECODER_NAMES)
        check_choice("augment", self.augment, AUGMENTATIONS)
        if self.kind is not None:
            self._check_kind(self.kind)
        check_flag("flip", self.flip)
        check_flag("probabilities", self.probabilities)
        if not is_integer(self.channels, least=0) or 0 < self.channels < 8:
            raise OptionError(f"channels={self.channels!r} is neither 0 nor a width of 8 or more")
        if not is_number(self.auxiliary) or self.auxiliary < 0:
            raise OptionError(f"auxiliary={self.auxiliary!r} is not a non-negative number")
        parse_loss(self.loss)
        self._check_ignore()
        if self.class_weights not in (None, "balanced"):
            check_class_weights("class_weights", self.class_weights, len(self.class_names))
        check_class_weights("loss_weights", self.loss_weights, len(self.class_names))

    def _check_kind(self, kind: str) -> None:
        check_choice("kind", kind, KINDS)
        names = self.class_names
        try:
            if names:
                check_class_count(names, kind)
        except DataError as error:
            raise OptionError(f"class_names={names!r} with kind={kind!r}: {error}") from None

    def _check_ignore(self) -> None:
        ignore = self.ignore
        is_name = isinstance(ignore, str) and bool(ignore)
        is_value = is_integer(ignore, least=0) and ignore <= 65_535
        if ignore is not None and not is_name and not is_value:
            raise OptionError(f"ignore={ignore!r} is neither a class name nor a mask value")
        if ignore in self.class_names:
            raise OptionError(
                f"ignore={ignore!r} is also in class_names; remove it from one of them"
            )

    # ---- data ----

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        return read_splits(
            data,
            class_names=self.class_names,
            kind=self.kind,
            ignore=self.ignore,
            validation=validation,
            seed=seed,
        )

    def read_evaluation(self, data: Any) -> EvaluationSplit:
        return read_evaluation(
            data, bound_class_names(self.class_names), self._bound_kind(), self.ignore
        )

    def bind(self, train: Samples) -> Segmentation:
        """Set the class names, the kind and the loss weights from the training data.

        Args:
            train: Training samples returned by ``read``.

        Returns:
            The task to train.

        Raises:
            DataError: The samples do not come from ``read``.
            OptionError: The number of class weights is not the number of classes.
        """
        if not isinstance(train, MaskedSamples):
            raise DataError(f"bind takes samples returned by read(), not {type(train).__name__}")
        weights = self.class_weights or ()
        if weights == "balanced":
            weights = balanced_weights(train.counts().tolist())
        kind: Any = train.kind
        return replace(
            self,
            class_names=train.class_names,
            kind=kind,
            loss_weights=tuple(float(w) for w in weights),
        )

    def train_transform(self, preprocess: PreprocessConfig) -> Transform | None:
        """Return the augmentation: of the whole image or, with ``resize="pad"``, of crops."""
        if self.augment == "none":
            return None
        whole = preprocess.resize != "pad"
        return TrainTransform(preprocess.size, self.augment, self.flip, self._ignored, whole)

    def augmentable(self, image: Any, target: Any) -> tuple[Any, dict[str, Any]]:
        """Return the image, and its mask."""
        return image, {"mask": tv_tensors.Mask(torch.as_tensor(target))}

    def augmented(
        self,
        target: Any,
        parts: Mapping[str, Any],
        size: tuple[int, int],
        preprocess: PreprocessConfig,
    ) -> Tensor:
        """Return the mask that has moved with its image."""
        mask = torch.as_tensor(parts.get("mask"))
        if tuple(mask.shape[-2:]) != size:
            raise OptionError(
                f"augment returned an image of {size[0]}x{size[1]} pixels with a mask {tuple(mask.shape)}"
            )
        return mask.as_subclass(Tensor)

    def collate(self, targets: list[Any]) -> Tensor | list[Tensor]:
        """Collate masks into a batch.

        Args:
            targets: Masks, uint8 or int32 (..., H, W).

        Returns:
            The same type, (N, ..., H, W); a list if the masks differ in size.
        """
        masks = [torch.as_tensor(target).as_subclass(Tensor) for target in targets]
        return torch.stack(masks) if len({mask.shape for mask in masks}) == 1 else masks

    # ---- model ----

    def build_head(self, backbone: Backbone) -> nn.Module:
        # The decoders' libraries take seconds to import, and listing tasks does not need them.
        from visiongraft.plugins.segmentation.models.network import SegmentationNetwork

        check_input_size(backbone, self.name)
        outputs = 1 if self._bound_kind() == "binary" else len(bound_class_names(self.class_names))
        return SegmentationNetwork(
            backbone.info, self.decoder, outputs, self.channels, bool(self.auxiliary)
        )

    def class_rows(self, backbone: Backbone) -> Mapping[str, ClassRows | None] | None:
        plain = replace(self, class_weights=None, loss_weights=())
        if self._bound_kind() != "binary":
            return find_class_rows(plain, backbone)
        found = find_class_rows(replace(plain, kind="multi_class"), backbone) or {}
        return {
            name: ClassRows(self.class_names[1:]) for name in found
        }  # a logit of the foreground

    def read_published(self, tensors: Mapping[str, Tensor]) -> Published | None:
        """Recognize the networks that torchvision publishes."""
        return read_published(tensors, self.class_names)

    def build_loss(self) -> nn.Module:
        from visiongraft.plugins.segmentation.loss import SegmentationLoss

        parts, kind = parse_loss(self.loss), self._bound_kind()
        return SegmentationLoss(parts, kind, self._ignored, self.loss_weights, self.auxiliary)

    def training_step(self, network: Network, batch: Batch) -> dict[str, Tensor]:
        """Compute the losses, with the masks resized to the network's input like the images."""
        if network.head.training and len(batch.images) == 1 and self.decoder in GLOBAL_POOLING:
            raise OptionError(
                f"decoder {self.decoder!r} uses batch normalization after global pooling; train it "
                "with a batch_size of 2 or more"
            )
        size, resize = batch.images.shape[-2:], network.preprocess.config.resize
        targets = masks_at_input(batch.targets, (size[0], size[1]), resize, self._ignored)
        outputs = network.head(network.backbone(batch.images))
        parts: dict[str, Tensor] = network.loss(outputs, targets)
        return parts

    def validation_loss(
        self, loss: nn.Module, outputs: dict[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """Compute the losses at the size of the network's input, as in training."""
        size = batch.images.shape[-2:]
        targets = masks_at_input(batch.targets, (size[0], size[1]), "stretch", self._ignored)
        parts: dict[str, Tensor] = loss(outputs, targets)
        return parts

    def class_logits(self, outputs: dict[str, Tensor]) -> Tensor | None:
        """Return the logits of each pixel, (N, C, h, w), unless it can have several classes."""
        logits = outputs["logits"]
        if self._bound_kind() == "binary":
            return torch.cat([torch.zeros_like(logits), logits], dim=1)
        return logits if self._bound_kind() == "multi_class" else None

    # ---- results ----

    def decode(self, outputs: dict[str, Tensor], sizes: Tensor) -> Decoded:
        """Convert full-resolution logits to predicted classes.

        Args:
            outputs: ``logits``, (N, C, H, W).
            sizes: Not used.

        Returns:
            ``labels``: the most probable class id of each pixel, uint8 (N, H, W), int32 above 255
            classes; for a multi-label model uint8 (N, C, H, W), 1 where the probability is at
            least 0.5. ``margins``, float32 of the same shape, in 0..1: the difference in
            probability to the second best class, 0 for a tie. With the option ``probabilities``
            also those, float32 (N, C, H, W), or (N, 1, H, W) for a binary model.
        """
        logits = outputs["logits"].to(torch.float32)
        if self._bound_kind() == "multi_class":
            labels = logits.argmax(dim=1)
            # Softmax in steps: onnxruntime's softmax over channels takes longer than the network.
            powers = (logits - logits.amax(dim=1, keepdim=True)).exp()  # 1 for the best class
            total = powers.sum(dim=1)
            # The second best class is the best one after masking the best.
            second = powers.scatter(1, labels[:, None], 0.0).amax(dim=1)
            margins = (1 - second) / total
            probabilities = {"probabilities": powers / total[:, None]} if self.probabilities else {}
            small = logits.shape[1] <= MAX_UINT8_CLASSES
            labels = labels.to(torch.uint8 if small else torch.int32)
        else:
            chances = logits.sigmoid()
            labels, margins = (logits >= 0).to(torch.uint8), (2 * chances - 1).abs()
            if self._bound_kind() == "binary":
                labels, margins = labels[:, 0], margins[:, 0]
            probabilities = {"probabilities": chances} if self.probabilities else {}
        return {"labels": labels, "margins": margins, **probabilities}

    def metric_inputs(self, name: str, decoded: Arrays, targets: Any) -> tuple[Tensor, Tensor]:
        """Return class ids of pixels (N, H, W); of a multi-label model 0 and 1, (N, C, H, W)."""
        masks = targets if isinstance(targets, Tensor) else torch.stack(list(targets))
        return torch.as_tensor(decoded["labels"]).to(torch.int64), masks.to(torch.int64)

    def build_metrics(self) -> SegmentationMetrics:
        multi_label = self._bound_kind() == "multi_label"
        return SegmentationMetrics(bound_class_names(self.class_names), self._ignored, multi_label)

    def label_judge(self) -> MaskJudge | None:
        """Return a judge of masks, unless a pixel can have several classes."""
        if self._bound_kind() == "multi_label":
            return None
        return MaskJudge(self, bound_class_names(self.class_names), self._ignored)

    def predictions(self, decoded: Arrays) -> list[Segmented]:
        return predictions(decoded, self.metadata())

    def export_support(self) -> ExportSupport:
        return ExportSupport(compare=compare_masks)

    def metadata(self) -> dict[str, Any]:
        return {"class_names": list(self.class_names), "kind": self.kind}

    def examples(self) -> TaskExamples:
        write = partial(write_example, class_names=self.class_names, kind=self.kind)
        return TaskExamples(write, self._ideal)

    def _ideal(self, targets: Any) -> Arrays:
        masks = np.stack([np.asarray(target) for target in targets])
        labels = np.where(masks == self._ignored, 0, masks).astype(masks.dtype)
        ideal = {"labels": labels, "margins": np.ones(labels.shape, np.float32)}
        if self.probabilities:
            ids = np.arange(len(bound_class_names(self.class_names)))[:, None, None]
            hot = labels[:, None] == ids if self._bound_kind() == "multi_class" else labels
            hot = hot[:, None] if self._bound_kind() == "binary" else hot
            ideal["probabilities"] = hot.astype(np.float32)
        return ideal

    @property
    def _ignored(self) -> int:
        if self.kind == "multi_label":
            return IGNORED_VALUE
        return ignored_id(len(self.class_names))

    def _bound_kind(self) -> str:
        if self.kind is None:
            raise OptionError("the task has no kind yet; read() and bind() set it")
        return self.kind
