"""Image-to-image translation without pairs as a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

import torch
from torch import Tensor, nn

from visiongraft.backbone import Backbone
from visiongraft.data.samples import EvaluationSplit, Samples, Splits
from visiongraft.errors import OptionError
from visiongraft.optimizers import OptimizerSpec
from visiongraft.options import check_choice, check_integer, is_number
from visiongraft.plugins.adversarial.losses import ADVERSARIAL_LOSSES
from visiongraft.plugins.image_sets.features import NETWORK, check_features
from visiongraft.plugins.translation.base import ImageToImage
from visiongraft.plugins.translation.transforms import UnpairedTransform
from visiongraft.plugins.translation.unpaired.cycle import CycleLoss, Generator, Inverse
from visiongraft.plugins.translation.unpaired.data import read_evaluation, read_splits
from visiongraft.plugins.translation.unpaired.example import write_example
from visiongraft.plugins.translation.unpaired.metrics import UnpairedMetrics
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import LossParts, TaskExamples, Transform

if TYPE_CHECKING:
    from visiongraft.data.batch import Batch
    from visiongraft.network import Network

CRITICS = "critics"  # name of their optimizer


@dataclass(frozen=True)
class UnpairedTranslation(ImageToImage):
    """Make images of another kind of images, as two sets of images show that belong to no pairs.

    CycleGAN (Zhu et al., 2017): a second network learns the way back, and what both make of an image, one
    after the other, should be the image. The second one is part of training alone. The headline metric
    is the kernel distance of what is made to images of the other kind.

    Attributes:
        direction: See ``ImageToImage``, as for all that are not listed here.
        adversarial_loss: ``"least_squares"`` as in the paper, ``"hinge"`` or ``"non_saturating"``.
        cycle_weight: Weight of the distance of an image from what becomes of it on the way there and
            back, beside what critics say, of weight 1.
        identity_weight: Weight of the change that is made to images which need none; 0 for none.
        features: Name of the pretrained backbone by whose features sets of images are compared.
        features_size: Height and width of the images that it gets; its own if ``None``.
    """

    name: ClassVar[str] = "unpaired_translation"
    headline: ClassVar[str] = "kid"
    better: ClassVar[Literal["higher", "lower"]] = "lower"
    bounds: ClassVar[tuple[float, float] | None] = (float("-inf"), float("inf"))
    adversarial: ClassVar[bool] = True
    targets_in_common: ClassVar[bool] = True
    # Images of three kinds pass through each network, whose statistics would be those of a mixture.
    instance_norm: ClassVar[bool] = True

    adversarial_loss: Literal["non_saturating", "hinge", "least_squares"] = "least_squares"
    cycle_weight: float = 10.0
    identity_weight: float = 1.0
    features: str = NETWORK
    features_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("adversarial_loss", self.adversarial_loss, tuple(ADVERSARIAL_LOSSES))
        if not is_number(self.cycle_weight) or self.cycle_weight <= 0:
            raise OptionError(f"cycle_weight={self.cycle_weight!r} is not a positive number")
        if not is_number(self.identity_weight) or self.identity_weight < 0:
            raise OptionError(f"identity_weight={self.identity_weight!r} is not a number from 0")
        if self.features_size is not None:
            check_integer("features_size", self.features_size, least=1)

    # ---- data ----

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        return read_splits(data, reverse=self._reverse, validation=validation, seed=seed)

    def claims(self, data: Any) -> bool:
        """Claim nothing: folders whose names do not match may as well be pairs with a mistake."""
        return False

    def read_evaluation(self, data: Any) -> EvaluationSplit:
        return read_evaluation(data, reverse=self._reverse)

    def bind(self, train: Samples) -> Self:
        """Check the feature network of the metrics before anything is trained."""
        check_features(self.features, self.features_size)
        return self

    def train_transform(self, preprocess: PreprocessConfig) -> Transform | None:
        if self.augment == "none":
            return None
        return UnpairedTransform(preprocess.size, self.flip)

    def collate(self, targets: list[Any]) -> list[list[Tensor]]:
        """Collate targets into a batch: of each sample some images, uint8 (H, W, 3)."""
        return [[torch.as_tensor(image) for image in images] for images in targets]

    # ---- model ----

    def build_head(self, backbone: Backbone) -> nn.Module:
        info = backbone.info
        if info.in_channels != 3:
            raise OptionError(
                f"task {self.name!r} takes RGB images, not {info.in_channels} channels, since the way back "
                "begins at what is made"
            )
        if info.preprocess.resize == "pad":
            raise OptionError(
                f"task {self.name!r} trains at one size, to which images are stretched; leave out "
                "resize='pad'"
            )
        return super().build_head(backbone)

    def build_loss(self, backbone: Backbone) -> nn.Module:  # type: ignore[override]
        return CycleLoss(
            Inverse(backbone, self.build_head(backbone)),
            backbone.info.preprocess.size,
            self.adversarial_loss,
            self.cycle_weight,
            self.identity_weight,
        )

    def optimizers(self) -> tuple[OptimizerSpec, ...]:
        options = {"betas": (0.5, 0.999)}  # as in the paper
        return (
            OptimizerSpec(CRITICS, ("loss.critics",), "adamw", options, transfer_losses=False),
            OptimizerSpec("generators", ("backbone", "head", "loss.inverse"), "adamw", options),
        )

    def training_step(self, network: Network, batch: Batch) -> LossParts:
        """Compute the loss of the critics or of both generators."""
        from visiongraft.plugins.translation.head import inputs_as_images, targets_at_input

        chosen = [_one_of(targets) for targets in batch.targets]
        size = batch.images.shape[-2:]
        wanted, _ = targets_at_input(chosen, size, network.preprocess)
        inputs = inputs_as_images(batch.images, network.preprocess)
        loss = cast(CycleLoss, network.loss)
        compute = loss.judged if batch.step.optimizer == CRITICS else loss
        parts: LossParts = compute(
            self._generator(network, network),
            self._generator(network, loss.inverse),
            inputs,
            wanted,
        )
        return parts

    def _generator(self, network: Network, part: Network | Inverse) -> Generator:
        """Return a function from images to images, by the network or by its inverse."""
        from visiongraft.plugins.translation.head import made_images

        def make(images: Tensor) -> Tensor:
            prepared = network.preprocess.normalize(images * 255)
            values = part.head(part.backbone(prepared))["image"]
            made = made_images(values, prepared, network.preprocess, self.residual)
            # What the others see is clipped as results are, so that nothing can be hidden beyond the
            # range of values; gradients pass as if it were not.
            return made + (made.clamp(0.0, 1.0) - made).detach()

        return make

    # ---- results ----

    def build_metrics(self) -> UnpairedMetrics:
        return UnpairedMetrics(self.features, self.features_size)

    def examples(self) -> TaskExamples:
        return TaskExamples(write_example)


def _one_of(targets: list[Tensor]) -> Tensor:
    """Return one of the images, at random if there are several, as without augmentation."""
    return targets[int(torch.randint(len(targets), ()))] if len(targets) > 1 else targets[0]
