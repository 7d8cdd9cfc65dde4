"""The detection task: how its parts fit the core's contract."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from visiongraft.backbone import Backbone
from visiongraft.data.samples import Samples, Splits
from visiongraft.errors import DataError, OptionError, near_matches
from visiongraft.plugins.detection.compare import compare_detections, rescale_boxes
from visiongraft.plugins.detection.data import (
    DetectionSamples,
    check_trainable,
    read_evaluation,
    read_splits,
)
from visiongraft.plugins.detection.example import write_coco
from visiongraft.plugins.detection.models.heads import HEADS
from visiongraft.plugins.detection.models.maps import refuse_crops
from visiongraft.plugins.detection.models.selection import NOTHING, Limits
from visiongraft.plugins.detection.objects import Objects
from visiongraft.plugins.detection.prediction import Detected, predictions
from visiongraft.plugins.detection.transforms import AUGMENTATIONS, TrainTransform
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import (
    Arrays,
    Decoded,
    ExportSupport,
    Task,
    TaskExamples,
    Transform,
)

if TYPE_CHECKING:
    from visiongraft.network import Batch, Network
    from visiongraft.plugins.detection.metrics import DetectionMetrics


@dataclass(frozen=True)
class Detection(Task):
    """Find things in an image: their boxes, label names and scores.

    Attributes:
        labels: Label names by class id; made from the training data if empty.
        head: ``"ssdlite"``, ``"ssd"``, ``"retinanet"``, ``"fcos"`` or ``"faster_rcnn"``.
        width: Channels of the feature pyramid of the last three, a multiple of 32.
        score_threshold: Detections with a score up to this are left out, in [0, 1).
        iou_threshold: So are those that overlap a better one of their label by more than this, in
            (0, 1]; ``None`` takes what torchvision has for the head.
        detections: Most detections per image.
        augment: ``"none"``, ``"light"`` (crops, flip, slight changes of color) or ``"strong"``
            (also a larger ground and strong changes of color).
        flip: Whether augmentation mirrors images.
    """

    name: ClassVar[str] = "detection"
    headline: ClassVar[str] = "mAP"
    resize: ClassVar[Literal["crop", "stretch"] | None] = "stretch"

    labels: tuple[str, ...] = ()
    head: Literal["ssdlite", "ssd", "retinanet", "fcos", "faster_rcnn"] = "ssdlite"
    width: int = 128
    score_threshold: float = 0.05
    iou_threshold: float | None = None
    detections: int = 100
    augment: Literal["none", "light", "strong"] = "light"
    flip: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.labels, list):  # as people write it
            object.__setattr__(self, "labels", tuple(self.labels))
        names = self.labels
        if not isinstance(names, tuple) or not all(isinstance(n, str) and n for n in names):
            raise OptionError(f"labels={names!r} is no list of names")
        if len(set(names)) != len(names):
            raise OptionError(f"labels={names!r} holds a name twice")
        for name, known in (("head", tuple(HEADS)), ("augment", AUGMENTATIONS)):
            value = getattr(self, name)
            if value not in known:
                raise OptionError(f"{name}={value!r} is unknown{near_matches(str(value), known)}")
        if not _is_whole(self.width) or self.width < 32 or self.width % 32:
            raise OptionError(f"width={self.width!r} is no multiple of 32")
        if not _is_whole(self.detections) or self.detections < 1:
            raise OptionError(f"detections={self.detections!r} is no whole number of 1 or more")
        if not _is_number(self.score_threshold) or not 0 <= self.score_threshold < 1:
            raise OptionError(f"score_threshold={self.score_threshold!r} is not in [0, 1)")
        iou = self.iou_threshold
        if iou is not None and (not _is_number(iou) or not 0 < iou <= 1):
            raise OptionError(f"iou_threshold={iou!r} is not in (0, 1]")
        if not isinstance(self.flip, bool):
            raise OptionError(f"flip={self.flip!r} is neither true nor false")

    @property
    def limits(self) -> Limits:
        """What a detection must reach."""
        iou = self.iou_threshold
        return Limits(
            self.score_threshold, HEADS[self.head].iou if iou is None else iou, self.detections
        )

    # ---- data ----

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        return read_splits(data, labels=self.labels, validation=validation, seed=seed)

    def read_evaluation(self, data: Any) -> Samples:
        return read_evaluation(data, self._known_labels())

    def bind(self, train: Samples) -> Detection:
        """Take over the label map.

        Args:
            train: Training samples that ``read`` found.

        Returns:
            The task to train.

        Raises:
            DataError: The samples are others, or no image has a box.
        """
        if not isinstance(train, DetectionSamples):
            raise DataError(f"bind takes samples that read() found, not {type(train).__name__}")
        check_trainable(train)
        return replace(self, labels=train.labels)

    def train_transform(self, preprocess: PreprocessConfig) -> Transform | None:
        if self.augment == "none":
            return None
        return TrainTransform(preprocess.size, self.augment, self.flip)

    def collate(self, targets: list[Objects]) -> list[dict[str, Tensor]]:
        """Make one batch of targets: what ``Objects.tensors`` gives, for each image."""
        return [target.tensors() for target in targets]

    # ---- model ----

    def build_head(self, backbone: Backbone) -> nn.Module:
        refuse_crops(backbone)
        return HEADS[self.head].build(backbone, len(self._known_labels()), self.width)

    def build_loss(self) -> nn.Module:
        return HEADS[self.head].loss()

    def training_step(self, network: Network, batch: Batch) -> dict[str, Tensor]:
        """Compute the loss parts of one batch; heads of two stages see the targets."""
        features = network.backbone(batch.images)
        seen = (batch.targets,) if HEADS[self.head].samples else ()
        parts: dict[str, Tensor] = network.loss(network.head(features, *seen), batch.targets)
        return parts

    # ---- results ----

    def decode(self, outputs: Mapping[str, Tensor], sizes: Tensor) -> Decoded:
        """Turn what the head says into detections, with suppression of overlapping ones.

        Args:
            outputs: What the head gave.
            sizes: int64 (N, 2), original heights and widths.

        Returns:
            ``boxes`` float32 (N, K, 4), corners in pixels of the original images; ``scores``
            float32 (N, K), the best first; ``labels`` int64 (N, K); and ``count`` int64 (N,), how
            many of the K places hold a detection. The others hold zeros, and label -1.
        """
        return HEADS[self.head].decode(outputs, sizes, self.limits)

    def build_metrics(self) -> DetectionMetrics:
        # pycocotools takes a while to import, and prediction needs none of it.
        from visiongraft.plugins.detection.metrics import DetectionMetrics

        return DetectionMetrics(self._known_labels())

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
        return {"labels": list(self.labels)}

    def examples(self) -> TaskExamples:
        return TaskExamples(self._write_examples, self._ideal)

    def _write_examples(self, folder: Path, count: int, seed: int) -> Path:
        return write_coco(folder, self.labels, count, seed)

    def _ideal(self, targets: Sequence[Mapping[str, Tensor]]) -> Arrays:
        images, places = len(targets), self.detections
        boxes = np.zeros((images, places, 4), np.float32)
        scores = np.zeros((images, places), np.float32)
        labels = np.full((images, places), NOTHING, np.int64)
        count = np.zeros(images, np.int64)
        for i, target in enumerate(targets):
            own = ~target["crowd"].cpu()
            n = min(int(own.sum()), places)
            boxes[i, :n] = target["boxes"].cpu()[own][:n].numpy()
            scores[i, :n] = 1
            labels[i, :n] = target["labels"].cpu()[own][:n].numpy()
            count[i] = n
        return {"boxes": boxes, "scores": scores, "labels": labels, "count": count}

    def _known_labels(self) -> tuple[str, ...]:
        if not self.labels:
            raise OptionError("the task has no label names yet; read() and bind() find them")
        return self.labels


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
