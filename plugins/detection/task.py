"""The detection task: the core's ``Task`` for object detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from visiongraft.backbone import Backbone
from visiongraft.data.samples import EvaluationSplit, Samples, Splits
from visiongraft.errors import DataError, OptionError, near_matches
from visiongraft.options import (
    bound_class_names,
    check_choice,
    check_class_names,
    check_flag,
    check_fraction,
    check_integer,
    is_integer,
    is_number,
)
from visiongraft.plugins.detection.compare import compare_detections, rescale_boxes
from visiongraft.plugins.detection.data import (
    DetectionSamples,
    check_trainable,
    read_evaluation,
    read_splits,
)
from visiongraft.plugins.detection.example import write_coco
from visiongraft.plugins.detection.explained import explained_boxes
from visiongraft.plugins.detection.labels import BoxJudge
from visiongraft.plugins.detection.models.heads import HEADS
from visiongraft.plugins.detection.models.losses import ImageMeanLoss
from visiongraft.plugins.detection.models.maps import reject_crops
from visiongraft.plugins.detection.models.selection import EMPTY, Limits
from visiongraft.plugins.detection.mosaic import mosaic
from visiongraft.plugins.detection.objects import Objects
from visiongraft.plugins.detection.prediction import Detected, predictions
from visiongraft.plugins.detection.published import read_published
from visiongraft.plugins.detection.transforms import (
    AUGMENTATIONS,
    TrainTransform,
    box_parts,
    objects_of,
)
from visiongraft.preprocess import PreprocessConfig
from visiongraft.seeds import preserved
from visiongraft.task import (
    Arrays,
    Decoded,
    ExportSupport,
    Task,
    TaskExamples,
    Transform,
)
from visiongraft.task_contract.class_rows import ClassRows
from visiongraft.task_contract.explained import Explained
from visiongraft.task_contract.published import Published

if TYPE_CHECKING:
    from visiongraft.data.batch import Batch
    from visiongraft.network import Network
from visiongraft.plugins.detection.metrics import DetectionMetrics


@dataclass(frozen=True)
class Detection(Task):
    """Detect objects: a box, a class and a score for each.

    Attributes:
        class_names: Class names by id; taken from the training data if empty.
        head: ``"ssdlite"``, ``"ssd"``, ``"retinanet"``, ``"fcos"``, ``"faster_rcnn"`` or ``"faster_rcnn_v2"``.
        width: Channels of the feature pyramid of the last four heads, a multiple of 32.
        score_threshold: Detections with a score up to this are dropped, in [0, 1).
        iou_threshold: Detections that overlap a better one of their class by more than this
            intersection over union are suppressed, in (0, 1]; ``None`` is torchvision's default for
            the head.
        detections: Maximum number of detections per image.
        augment: ``"none"``, ``"light"`` (crops, flip, slight color jitter) or ``"strong"`` (also
            zooming out further and strong color distortion).
        flip: Whether augmentation mirrors images.
        mosaic: Fraction of the training images that are replaced by mosaics of four, in [0, 1]; needs
            ``augment``.
    """

    name: ClassVar[str] = "detection"
    pipeline_tag: ClassVar[str] = "object-detection"
    splits_alike: ClassVar[bool] = True
    headline: ClassVar[str] = "mAP"
    resize: ClassVar[Literal["crop", "stretch"] | None] = "stretch"
    class_names: tuple[str, ...] = ()
    head: Literal["ssdlite", "ssd", "retinanet", "fcos", "faster_rcnn", "faster_rcnn_v2"] = (
        "ssdlite"
    )
    width: int = 128
    score_threshold: float = 0.05
    iou_threshold: float | None = None
    detections: int = 100
    augment: Literal["none", "light", "strong"] = "light"
    flip: bool = True
    mosaic: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.class_names, list):  # as from JSON
            object.__setattr__(self, "class_names", tuple(self.class_names))
        check_class_names(self.class_names)
        check_choice("head", self.head, tuple(HEADS))
        check_choice("augment", self.augment, AUGMENTATIONS)
        check_flag("flip", self.flip)
        if not is_number(self.mosaic) or not 0 <= self.mosaic <= 1:
            raise OptionError(f"mosaic={self.mosaic!r} is not in [0, 1]")
        if self.mosaic and self.augment == "none":
            raise OptionError("mosaic is an augmentation; leave out augment='none'")
        if not is_integer(self.width, least=32) or self.width % 32:
            raise OptionError(f"width={self.width!r} is not a multiple of 32")
        check_integer("detections", self.detections, least=1)
        check_fraction("score_threshold", self.score_threshold)
        iou = self.iou_threshold
        if iou is not None and (not is_number(iou) or not 0 < iou <= 1):
            raise OptionError(f"iou_threshold={iou!r} is not in (0, 1]")

    @property
    def schedule_options(self) -> Mapping[str, Any]:  # type: ignore[override]
        """Those with which a new head of the chosen kind is learned."""
        return HEADS[self.head].schedule

    @property
    def limits(self) -> Limits:
        """What a detection must reach."""
        iou = self.iou_threshold
        return Limits(
            self.score_threshold, HEADS[self.head].iou if iou is None else iou, self.detections
        )

    # ---- data ----

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        return read_splits(data, class_names=self.class_names, validation=validation, seed=seed)

    def read_evaluation(self, data: Any) -> EvaluationSplit:
        return read_evaluation(data, bound_class_names(self.class_names))

    def bind(self, train: Samples) -> Detection:
        """Adopt the class names of the training set.

        Args:
            train: Training samples from ``read``.

        Returns:
            The task to train.

        Raises:
            DataError: The samples are not from ``read``, or no image has a box.
        """
        if not isinstance(train, DetectionSamples):
            raise DataError(f"bind() takes samples from read(), not {type(train).__name__}")
        check_trainable(train)
        return replace(self, class_names=train.class_names)

    def train_transform(self, preprocess: PreprocessConfig) -> Transform | None:
        if self.augment == "none":
            return None
        return TrainTransform(preprocess, self.augment, self.flip)

    def augmentable(self, image: Any, target: Objects) -> tuple[Any, dict[str, Any]]:
        """Return the image, and boxes and class ids of its objects without crowd regions."""
        return image, box_parts(target, image.shape[-2:])

    def augmented(
        self,
        target: Objects,
        parts: Mapping[str, Any],
        size: tuple[int, int],
        preprocess: PreprocessConfig,
    ) -> Objects:
        """Return the objects that are left in an augmented image, at the size of the network's input."""
        return objects_of(parts, size, preprocess)

    def mix(self, images: Tensor, targets: Any) -> tuple[Tensor, Any]:
        return mosaic(images, targets, self.mosaic) if self.mosaic else (images, targets)

    def collate(self, targets: list[Objects]) -> list[dict[str, Tensor]]:
        """Collate targets into a list of tensors, one ``Objects.tensors`` for each image."""
        return [target.tensors() for target in targets]

    # ---- model ----

    def build_head(self, backbone: Backbone) -> nn.Module:
        reject_crops(backbone)
        return HEADS[self.head].build(
            backbone, len(bound_class_names(self.class_names)), self.width
        )

    def class_rows(self, backbone: Backbone) -> dict[str, ClassRows]:
        with preserved():
            head: Any = self.build_head(backbone)
        rows: dict[str, ClassRows] = head.class_rows(bound_class_names(self.class_names))
        return rows

    def read_published(self, tensors: Mapping[str, Tensor]) -> Published | None:
        """Recognize the detectors that torchvision publishes."""
        return read_published(tensors, self.class_names)

    def build_loss(self) -> nn.Module:
        return ImageMeanLoss(HEADS[self.head].loss)

    def training_step(self, network: Network, batch: Batch) -> dict[str, Tensor]:
        """Compute the loss terms of one batch; two-stage heads are passed the targets."""
        features = network.backbone(batch.images)
        inputs = (batch.targets,) if HEADS[self.head].samples else ()
        terms: dict[str, Tensor] = network.loss(network.head(features, *inputs), batch.targets)
        return terms

    def validation_loss(
        self, loss: nn.Module, outputs: Any, batch: Batch
    ) -> dict[str, Tensor] | None:
        """Compute the loss terms, unless the head needs the targets to sample regions."""
        if HEADS[self.head].samples:
            return None
        terms: dict[str, Tensor] = loss(outputs, batch.targets)
        return terms

    def class_logits(self, outputs: Any) -> None:
        """Return nothing: the classes of anchors and locations do not exclude each other."""

    def explained(
        self, outputs: Mapping[str, Tensor], sizes: Tensor, wanted: str | None = None
    ) -> Sequence[Explained]:
        """Return the surest boxes, of a class if one is named."""
        names = bound_class_names(self.class_names)
        if wanted is not None and wanted not in names:
            raise OptionError(f"target={wanted!r} is not a class{near_matches(wanted, names)}")
        return explained_boxes(partial(self.decode, sizes=sizes), outputs, sizes, names, wanted)

    # ---- results ----

    def decode(self, outputs: Mapping[str, Tensor], sizes: Tensor) -> Decoded:
        """Turn the outputs of the head into detections, suppressing overlapping ones.

        Args:
            outputs: Outputs of the head.
            sizes: int64 (N, 2), original heights and widths.

        Returns:
            ``boxes`` float32 (N, K, 4), corners in pixels of the original images; ``scores``
            float32 (N, K), sorted in descending order; ``labels`` int64 (N, K), class ids; and
            ``count`` int64 (N,), the number of detections. Slots after them are zero, and their
            class id is -1.
        """
        return HEADS[self.head].decode(outputs, sizes, self.limits)

    def metric_inputs(
        self, name: str, decoded: Arrays, targets: Sequence[Mapping[str, Tensor]]
    ) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
        """Return the objects of each image: boxes, labels, and scores or areas and crowd regions."""
        results = ("boxes", "scores", "labels")
        counts = np.asarray(decoded["count"]).tolist()
        found = [
            {key: torch.as_tensor(decoded[key][row, :count]) for key in results}
            for row, count in enumerate(counts)
        ]
        named = {"boxes": "boxes", "labels": "labels", "area": "areas", "iscrowd": "crowd"}
        return found, [{key: one[own] for key, own in named.items()} for one in targets]

    def build_metrics(self) -> DetectionMetrics:
        # pycocotools takes a while to import, and prediction needs none of it.
        from visiongraft.plugins.detection.metrics import DetectionMetrics

        return DetectionMetrics(bound_class_names(self.class_names))

    def label_judge(self) -> BoxJudge:
        return BoxJudge(self, bound_class_names(self.class_names))

    def predictions(self, decoded: Arrays) -> list[Detected]:
        return predictions(decoded, self.metadata())

    def export_support(self) -> ExportSupport:
        from visiongraft.plugins.detection.models.nms import onnx_operators, torch_operators

        return ExportSupport(
            compare=partial(compare_detections, limits=self.limits, noise=HEADS[self.head].noise),
            rescale=rescale_boxes,
            operators={"onnx": onnx_operators, "pt2": torch_operators},
        )

    def metadata(self) -> dict[str, Any]:
        return {"class_names": list(self.class_names)}

    def examples(self) -> TaskExamples:
        return TaskExamples(partial(write_coco, class_names=self.class_names), self._ideal)

    def _ideal(self, targets: Sequence[Mapping[str, Tensor]]) -> Arrays:
        images, slots = len(targets), self.detections
        boxes = np.zeros((images, slots, 4), np.float32)
        scores = np.zeros((images, slots), np.float32)
        labels = np.full((images, slots), EMPTY, np.int64)
        count = np.zeros(images, np.int64)
        for i, target in enumerate(targets):
            own = ~target["crowd"].cpu()
            n = min(int(own.sum()), slots)
            boxes[i, :n] = target["boxes"].cpu()[own][:n].numpy()
            scores[i, :n] = 1
            labels[i, :n] = target["labels"].cpu()[own][:n].numpy()
            count[i] = n
        return {"boxes": boxes, "scores": scores, "labels": labels, "count": count}
