"""Image-to-image translation as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import tv_tensors

from visiongraft.backbone import Backbone
from visiongraft.data.samples import EvaluationSplit, Samples, Splits
from visiongraft.errors import OptionError
from visiongraft.optimizers import OptimizerSpec
from visiongraft.options import check_choice, check_integer, is_number
from visiongraft.plugins.adversarial.losses import ADVERSARIAL_LOSSES
from visiongraft.plugins.image_sets.features import check_features
from visiongraft.plugins.translation.base import ImageToImage
from visiongraft.plugins.translation.critic import CRITIC, Pix2PixLoss
from visiongraft.plugins.translation.data import read_evaluation, read_splits
from visiongraft.plugins.translation.example import write_example
from visiongraft.plugins.translation.loss import REGRESSIONS, RegressionLoss
from visiongraft.plugins.translation.metrics import ImageMetrics
from visiongraft.plugins.translation.reading import in_folders
from visiongraft.plugins.translation.transforms import PairTransform
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import Arrays, LossParts, TaskExamples, Transform

if TYPE_CHECKING:
    from visiongraft.data.batch import Batch
    from visiongraft.network import Network


@dataclass(frozen=True)
class Translation(ImageToImage):
    """Make an image of the same size of every image, as pairs of images show.

    Denoising, colorization, super-resolution and outlines differ in their data only. The headline
    metric is the structural similarity of images and targets.

    Attributes:
        direction: See ``ImageToImage``, as for all that are not listed here.
        loss: ``"l1"``, ``"l2"`` or ``"charbonnier"``, a smooth L1.
        adversarial_loss: ``"non_saturating"``, ``"hinge"`` or ``"least_squares"``, for a critic that is
            trained against the network as in pix2pix (Isola et al., 2017); ``None`` for none.
        adversarial_weight: Weight of what the critic says, beside ``loss`` of weight 1.
        features: Name of the pretrained backbone by whose features all images that are made are also
            compared with all targets; ``None`` for no such metrics.
        features_size: Height and width of the images that it gets; its own if ``None``.
    """

    name: ClassVar[str] = "translation"
    pipeline_tag: ClassVar[str] = "image-to-image"
    headline: ClassVar[str] = "ssim"
    bounds: ClassVar[tuple[float, float] | None] = (-1.0, 1.0)

    loss: Literal["l1", "l2", "charbonnier"] = "l1"
    adversarial_loss: Literal["non_saturating", "hinge", "least_squares"] | None = None
    adversarial_weight: float = 0.01
    features: str | None = None
    features_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("loss", self.loss, tuple(REGRESSIONS))
        if self.adversarial_loss is not None:
            check_choice("adversarial_loss", self.adversarial_loss, tuple(ADVERSARIAL_LOSSES))
        if not is_number(self.adversarial_weight) or self.adversarial_weight <= 0:
            raise OptionError(
                f"adversarial_weight={self.adversarial_weight!r} is not a positive number"
            )
        if self.features_size is not None:
            check_integer("features_size", self.features_size, least=1)

    @property
    def adversarial(self) -> bool:  # type: ignore[override]
        return self.adversarial_loss is not None

    # ---- data ----

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        return read_splits(data, reverse=self._reverse, validation=validation, seed=seed)

    def claims(self, data: Any) -> bool:
        """Check for two folders of pairs; images that hold two side by side look like any others."""
        return isinstance(data, (str, Path)) and super().claims(data) and in_folders(Path(data))

    def read_evaluation(self, data: Any) -> EvaluationSplit:
        return read_evaluation(data, reverse=self._reverse)

    def bind(self, train: Samples) -> Self:
        """Check the feature network of the metrics before anything is trained."""
        if self.features is not None:
            check_features(self.features, self.features_size)
        return self

    def train_transform(self, preprocess: PreprocessConfig) -> Transform | None:
        """Return the augmentation: of whole images or, with ``resize="pad"``, of crops."""
        if self.augment == "none":
            return None
        return PairTransform(preprocess.size, self.flip, whole=preprocess.resize != "pad")

    def augmentable(self, image: Any, target: Any) -> tuple[Any, dict[str, Any]]:
        """Return the image, and the one that it is to become."""
        return image, {"target": tv_tensors.Image(torch.as_tensor(target).permute(2, 0, 1))}

    def augmented(
        self,
        target: Any,
        parts: Mapping[str, Any],
        size: tuple[int, int],
        preprocess: PreprocessConfig,
    ) -> Tensor:
        """Return the target that has changed with its image."""
        wanted = torch.as_tensor(parts.get("target"))
        if tuple(wanted.shape) != (3, *size) or wanted.dtype != torch.uint8:
            raise OptionError(
                f"augment returned an image of {size[0]}x{size[1]} pixels with a target {tuple(wanted.shape)} of "
                f"{wanted.dtype}"
            )
        return wanted.as_subclass(Tensor).permute(1, 2, 0).contiguous()

    def collate(self, targets: list[Any]) -> Tensor | list[Tensor]:
        """Collate targets into a batch.

        Args:
            targets: Images, uint8 (H, W, 3).

        Returns:
            uint8 (N, H, W, 3); a list if they differ in size.
        """
        images = [torch.as_tensor(target) for target in targets]
        return torch.stack(images) if len({image.shape for image in images}) == 1 else images

    # ---- model ----

    def build_head(self, backbone: Backbone) -> nn.Module:
        self._check_channels(backbone.info.in_channels)
        return super().build_head(backbone)

    def build_loss(self) -> nn.Module:
        regression = RegressionLoss(self.loss)
        if self.adversarial_loss is None:
            return regression
        return Pix2PixLoss(regression, self.adversarial_loss, self.adversarial_weight)

    def optimizers(self) -> tuple[OptimizerSpec, ...]:
        """Return one for everything or, with a critic, one for it and one for the network."""
        if not self.adversarial:
            return ()
        options = {"betas": (0.5, 0.999)}  # as in the paper
        return (
            OptimizerSpec(CRITIC, ("loss.critic",), "adamw", options, transfer_losses=False),
            OptimizerSpec("generator", ("backbone", "head"), "adamw", options),
        )

    def training_step(self, network: Network, batch: Batch) -> LossParts:
        """Compute the loss, with targets at the size of the network's input."""
        from visiongraft.plugins.translation.head import inputs_as_images, targets_at_input

        size = batch.images.shape[-2:]
        wanted, inside = targets_at_input(batch.targets, size, network.preprocess)
        judging = batch.step.optimizer == CRITIC
        with torch.set_grad_enabled(torch.is_grad_enabled() and not judging):
            made = self.inference_step(network, batch.images)["image"]
        parts: LossParts
        if not isinstance(network.loss, Pix2PixLoss):
            parts = network.loss(made, wanted, inside)
            return parts
        inputs = inputs_as_images(batch.images, network.preprocess)
        compute = network.loss.judged if judging else network.loss
        parts = compute(made, wanted, inside, inputs)
        return parts

    # ---- results ----

    def metric_inputs(self, name: str, decoded: Arrays, targets: Any) -> tuple[Tensor, Tensor]:
        """Return images and their targets, float (N, 3, H, W) in 0..1."""
        wanted = torch.stack([torch.as_tensor(target).permute(2, 0, 1) for target in targets])
        return torch.as_tensor(decoded["image"]), wanted.float() / 255

    def build_metrics(self) -> ImageMetrics:
        return ImageMetrics(self.features, self.features_size)

    def examples(self) -> TaskExamples:
        return TaskExamples(partial(write_example, reverse=self._reverse), _ideal)

    def _check_channels(self, channels: int) -> None:
        """Refuse channels that are no colors, where inputs are compared with what is made, RGB."""
        option = "adversarial_loss" if self.adversarial else "residual"
        if channels not in (1, 3) and (self.adversarial or self.residual):
            raise OptionError(
                f"{option}={getattr(self, option)!r} takes images of 1 or 3 channels, not {channels}, since what "
                "is made is RGB"
            )


def _ideal(targets: Sequence[Tensor]) -> Arrays:
    images = [np.asarray(target).transpose(2, 0, 1) / np.float32(255) for target in targets]
    return {"image": np.stack(images)}
