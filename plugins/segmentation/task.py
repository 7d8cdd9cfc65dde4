"""Semantic segmentation as a task."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor, nn

from visiongraft.backbone import Backbone
from visiongraft.data.samples import Samples, Splits
from visiongraft.errors import DataError, OptionError, near_matches
from visiongraft.plugins.segmentation.compare import compare_masks
from visiongraft.plugins.segmentation.data import (
    MaskedSamples,
    check_labels,
    read_labeled,
    read_splits,
)
from visiongraft.plugins.segmentation.drawing import draw_overlay
from visiongraft.plugins.segmentation.example import write_example
from visiongraft.plugins.segmentation.formats.masks import (
    IGNORED_VALUE,
    LARGEST_BYTE_COUNT,
    ignored_id,
)
from visiongraft.plugins.segmentation.metrics import SegmentationMetrics
from visiongraft.plugins.segmentation.models.geometry import on_input
from visiongraft.plugins.segmentation.options import (
    balanced_weights,
    is_count,
    is_number,
    read_loss,
)
from visiongraft.plugins.segmentation.prediction import Segmented, predictions
from visiongraft.plugins.segmentation.transforms import AUGMENTATIONS, TrainTransform
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import Arrays, Decoded, Disagreement, Task, Transform

if TYPE_CHECKING:
    from visiongraft.data.batch import Batch
    from visiongraft.network import Network

KINDS = ("multi_class", "binary", "multi_label")
DECODER_NAMES = ("unet", "fpn", "deeplabv3plus", "upernet", "segformer", "fcn", "deeplabv3")
POOLING = ("deeplabv3plus", "upernet", "deeplabv3")  # these average over whole images


@dataclass(frozen=True)
class Segmentation(Task):
    """Say what every pixel of an image shows.

    Measured by the mean intersection over union of all classes.

    Attributes:
        labels: Class names by id; made from the data if empty.
        kind: ``"multi_class"``: one class per pixel; ``"binary"``: background and one class, by a
            single logit; ``"multi_label"``: any number of classes per pixel, each with a mask of
            its own. ``None`` decides by the data.
        decoder: ``"unet"``, ``"fpn"``, ``"deeplabv3plus"``, ``"upernet"``, ``"segformer"``,
            ``"fcn"`` or ``"deeplabv3"``.
        channels: Width of the decoder; 0 for its own default. A narrow one is faster.
        ignore: A class name, or a value in the masks, whose pixels count neither in the loss nor
            in the metrics. The value 255 never counts, unless it is a class, nor does a class that
            is called void, unlabeled or ignore, unless ``labels`` names it.
        loss: ``"cross_entropy"`` (binary where there is no choice of one class), ``"dice"``,
            ``"focal"``, ``"lovasz"``, or a sum with weights such as ``"0.5*focal+lovasz"``.
        class_weights: Factor for each class in the loss, in the order of ``labels``, or
            ``"balanced"`` by the training pixels. Lovász, and Dice and focal of binary masks, have
            no such factor.
        auxiliary: Weight of the loss of a second, plain head on the map before the deepest, which
            only training has; 0 for none.
        probabilities: Whether predictions and exported files give each class's probability.
        augment: ``"none"``, ``"light"`` (zoom, flip, slight changes of color) or ``"strong"``.
        flip: Whether augmentation mirrors images.
        loss_weights: What ``bind`` makes of ``class_weights``.
    """

    name: ClassVar[str] = "segmentation"
    headline: ClassVar[str] = "mean_iou"
    resize: ClassVar[Literal["crop", "stretch", "pad"] | None] = "stretch"
    full_resolution_outputs: ClassVar[tuple[str, ...]] = ("logits",)

    labels: tuple[str, ...] = ()
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
        for name in ("labels", "class_weights", "loss_weights"):
            if isinstance(getattr(self, name), list):  # as people write them
                object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_labels()
        self._check_word("decoder", DECODER_NAMES)
        self._check_word("augment", AUGMENTATIONS)
        if self.kind is not None:
            self._check_word("kind", KINDS)
        for name in ("flip", "probabilities"):
            if not isinstance(getattr(self, name), bool):
                raise OptionError(f"{name}={getattr(self, name)!r} is neither true nor false")
        if not is_count(self.channels) or 0 < self.channels < 8:
            raise OptionError(f"channels={self.channels!r} is neither 0 nor a width of 8 or more")
        if not is_number(self.auxiliary) or self.auxiliary < 0:
            raise OptionError(f"auxiliary={self.auxiliary!r} is no weight of 0 or more")
        read_loss(self.loss)
        self._check_ignore()
        self._check_weights("class_weights", self.class_weights)
        self._check_weights("loss_weights", self.loss_weights)

    def _check_labels(self) -> None:
        names = self.labels
        if not isinstance(names, tuple) or not all(isinstance(n, str) and n for n in names):
            raise OptionError(f"labels={names!r} is no list of names")
        if len(set(names)) != len(names):
            raise OptionError(f"labels={names!r} holds a name twice")
        if names and self.kind is not None:
            try:
                check_labels(names, self.kind)
            except DataError as error:
                raise OptionError(f"labels={names!r} with kind={self.kind!r}: {error}") from None

    def _check_word(self, name: str, known: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in known:
            raise OptionError(f"{name}={value!r} is unknown{near_matches(str(value), known)}")

    def _check_ignore(self) -> None:
        ignore = self.ignore
        word = isinstance(ignore, str) and bool(ignore)
        if ignore is not None and not word and not (is_count(ignore) and ignore <= 65_535):  # type: ignore[operator]
            raise OptionError(f"ignore={ignore!r} is neither a class name nor a value in the masks")
        if ignore in self.labels:
            raise OptionError(f"ignore={ignore!r} is one of labels; it can only be one of both")

    def _check_weights(self, name: str, weights: Any) -> None:
        if weights is None or (weights == "balanced" and name == "class_weights"):
            return
        if not isinstance(weights, tuple) or not all(is_number(w) and w >= 0 for w in weights):
            raise OptionError(f"{name}={weights!r} is neither 'balanced' nor numbers of 0 or more")
        if weights and not any(weights):
            raise OptionError(f"{name}={weights!r} would train nothing; some must be above 0")
        if weights and self.labels and len(weights) != len(self.labels):
            raise OptionError(f"{name} has {len(weights)} numbers for {len(self.labels)} classes")

    # ---- data ----

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        return read_splits(
            data,
            labels=self.labels,
            kind=self.kind,
            ignore=self.ignore,
            validation=validation,
            seed=seed,
        )

    def read_labeled(self, data: Any) -> Samples:
        return read_labeled(data, self._known_labels(), self._known_kind(), self.ignore)

    def bind(self, train: Samples) -> Segmentation:
        """Take over label map and kind, and weigh the classes.

        Args:
            train: Training samples that ``read`` found.

        Returns:
            The task to train.

        Raises:
            DataError: The samples are others.
            OptionError: There are more or fewer class weights than classes.
        """
        if not isinstance(train, MaskedSamples):
            raise DataError(f"bind takes samples that read() found, not {type(train).__name__}")
        weights = self.class_weights or ()
        if weights == "balanced":
            weights = balanced_weights(train.counts().tolist())
        kind: Any = train.kind
        return replace(
            self, labels=train.labels, kind=kind, loss_weights=tuple(float(w) for w in weights)
        )

    def train_transform(self, size: tuple[int, int]) -> Transform | None:
        return self.transform_for(PreprocessConfig(size, resize="stretch"))

    def transform_for(self, preprocess: PreprocessConfig) -> Transform | None:
        """Make the augmentation: of the whole image or, where it keeps its size, of a part."""
        if self.augment == "none":
            return None
        whole = preprocess.resize != "pad"
        return TrainTransform(preprocess.size, self.augment, self.flip, self._ignored, whole)

    def collate(self, targets: list[Any]) -> Tensor | list[Tensor]:
        """Make one batch of targets.

        Args:
            targets: Masks, uint8 or int32 (..., H, W).

        Returns:
            The same type, (N, ..., H, W); a list where the masks have several sizes.
        """
        masks = [torch.as_tensor(target).as_subclass(Tensor) for target in targets]
        return torch.stack(masks) if len({mask.shape for mask in masks}) == 1 else masks

    # ---- model ----

    def build_head(self, backbone: Backbone) -> nn.Module:
        # Its libraries take seconds to import, and listing tasks needs none of them.
        from visiongraft.plugins.segmentation.models.decoders import SegmentationNetwork

        _check_size(backbone)
        outputs = 1 if self._known_kind() == "binary" else len(self._known_labels())
        return SegmentationNetwork(
            backbone.info, self.decoder, outputs, self.channels, bool(self.auxiliary)
        )

    def build_loss(self) -> nn.Module:
        from visiongraft.plugins.segmentation.loss import SegmentationLoss

        parts, kind = read_loss(self.loss), self._known_kind()
        return SegmentationLoss(parts, kind, self._ignored, self.loss_weights, self.auxiliary)

    def training_step(self, network: Network, batch: Batch) -> dict[str, Tensor]:
        """Compute the loss parts, with the masks where the network sees their images."""
        if network.head.training and len(batch.images) == 1 and self.decoder in POOLING:
            raise OptionError(
                f"decoder {self.decoder!r} normalizes over the images of a batch; train it with "
                "a batch_size of 2 or more"
            )
        size, resize = batch.images.shape[-2:], network.preprocess.config.resize
        targets = on_input(batch.targets, (size[0], size[1]), resize, self._ignored)
        outputs = network.head(network.backbone(batch.images))
        parts: dict[str, Tensor] = network.loss(outputs, targets)
        return parts

    # ---- results ----

    def decode(self, outputs: dict[str, Tensor], sizes: Tensor) -> Decoded:
        """Turn logits at the images' own size into decisions.

        Args:
            outputs: ``logits``, (N, C, H, W).
            sizes: Not used.

        Returns:
            ``labels``: the most probable class id of each pixel, uint8 (N, H, W), int32 above 255
            classes; of a multi-label model uint8 (N, C, H, W), 1 where the probability is at least
            0.5. ``margins``, float32 of the same shape, in 0..1: by how much a decision leads over
            the next best in probability, 0 where two are equal. With the option,
            ``probabilities``, float32 (N, C, H, W), of a binary model (N, 1, H, W).
        """
        logits = outputs["logits"].to(torch.float32)
        if self._known_kind() == "multi_class":
            labels = logits.argmax(dim=1)
            # Softmax in steps: over classes onnxruntime's own takes longer than the whole network.
            powers = (logits - logits.amax(dim=1, keepdim=True)).exp()  # of the first: 1
            total = powers.sum(dim=1)
            # The second best: the best one once the first is out of the way.
            second = powers.scatter(1, labels[:, None], 0.0).amax(dim=1)
            margins = (1 - second) / total
            chances = powers / total[:, None]
            small = logits.shape[1] <= LARGEST_BYTE_COUNT
            labels = labels.to(torch.uint8 if small else torch.int32)
        else:
            chances = logits.sigmoid()
            labels, margins = (logits >= 0).to(torch.uint8), (2 * chances - 1).abs()
            if self._known_kind() == "binary":
                labels, margins = labels[:, 0], margins[:, 0]
        decoded = {"labels": labels, "margins": margins}
        return {**decoded, "probabilities": chances} if self.probabilities else decoded

    def build_metrics(self) -> SegmentationMetrics:
        several = self._known_kind() == "multi_label"
        return SegmentationMetrics(self._known_labels(), self._ignored, several)

    def predictions(self, decoded: Arrays) -> list[Segmented]:
        return predictions(decoded, self.metadata())

    def draw(self, image: PillowImage.Image, prediction: Segmented) -> PillowImage.Image:
        return draw_overlay(image, prediction)

    def compare(self, reference: Arrays, candidate: Arrays) -> Disagreement:
        return compare_masks(reference, candidate)

    def metadata(self) -> dict[str, Any]:
        return {"labels": list(self.labels), "kind": self.kind}

    # ---- for checks ----

    def example_data(self, folder: Path, count: int, seed: int) -> Path:
        return write_example(folder, self.labels, self.kind, count, seed)

    def ideal(self, targets: Any) -> Arrays:
        masks = np.stack([np.asarray(target) for target in targets])
        labels = np.where(masks == self._ignored, 0, masks).astype(masks.dtype)
        ideal = {"labels": labels, "margins": np.ones(labels.shape, np.float32)}
        if self.probabilities:
            ids = np.arange(len(self._known_labels()))[:, None, None]
            hot = labels[:, None] == ids if self._known_kind() == "multi_class" else labels
            hot = hot[:, None] if self._known_kind() == "binary" else hot
            ideal["probabilities"] = hot.astype(np.float32)
        return ideal

    @property
    def _ignored(self) -> int:
        if self.kind == "multi_label":
            return IGNORED_VALUE
        return ignored_id(len(self.labels))

    def _known_labels(self) -> tuple[str, ...]:
        if not self.labels:
            raise OptionError("the task has no class names yet; read() and bind() find them")
        return self.labels

    def _known_kind(self) -> str:
        if self.kind is None:
            raise OptionError("the task does not know its kind yet; read() and bind() find it")
        return self.kind


def _check_size(backbone: Backbone) -> None:
    """Refuse sizes at which the borders of coarse and fine maps do not lie on each other."""
    stride = max(backbone.info.strides)
    size = backbone.info.preprocess.size
    if any(side % stride for side in size):
        near = tuple(max(round(side / stride), 1) * stride for side in size)
        raise OptionError(
            f"size={size}: masks need multiples of {stride} pixels with this backbone, such as "
            f"size={near}"
        )
