"""What tasks share that make an image of an image: options, decoder, results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import Tensor, nn

from visiongraft.backbone import Backbone
from visiongraft.errors import OptionError
from visiongraft.options import check_choice, check_flag, is_integer
from visiongraft.plugins.dense.pyramid import check_input_size
from visiongraft.plugins.translation.critic import MIN_SIDE
from visiongraft.plugins.translation.prediction import Translated, predictions
from visiongraft.task import Arrays, Decoded, Task

if TYPE_CHECKING:
    from visiongraft.network import InferenceGraph, Network

DIRECTIONS = ("a_to_b", "b_to_a")
MIN_CHANNELS = 8  # of a decoder


@dataclass(frozen=True)
class ImageToImage(Task):
    """Make an image of the same size of every image.

    Attributes:
        direction: ``"a_to_b"``: images of the first kind are the input; ``"b_to_a"``: of the second.
        residual: Whether the network computes a change of its input, which suits restoration: an
            untrained network then returns its input.
        channels: Width of the decoder; 0 for its default.
        augment: ``"none"``, or ``"light"``: zoom and flip.
        flip: Whether augmentation flips images horizontally.
    """

    splits_alike: ClassVar[bool] = True
    instance_norm: ClassVar[bool] = False  # of the decoder
    resize: ClassVar[Literal["crop", "stretch", "pad"] | None] = "stretch"
    full_resolution_outputs: ClassVar[tuple[str, ...]] = ("image",)

    direction: Literal["a_to_b", "b_to_a"] = "a_to_b"
    residual: bool = False
    channels: int = 0
    augment: Literal["none", "light"] = "light"
    flip: bool = True

    def __post_init__(self) -> None:
        check_choice("direction", self.direction, DIRECTIONS)
        check_choice("augment", self.augment, ("none", "light"))
        check_flag("residual", self.residual)
        check_flag("flip", self.flip)
        if not is_integer(self.channels, least=0) or 0 < self.channels < MIN_CHANNELS:
            raise OptionError(f"channels={self.channels!r} is neither 0 nor a width of 8 or more")

    # ---- model ----

    def build_head(self, backbone: Backbone) -> nn.Module:
        # The decoders' library takes seconds to import, and listing tasks does not need it.
        from visiongraft.plugins.translation.head import ImageHead

        check_input_size(backbone, self.name)
        if self.adversarial and min(backbone.info.preprocess.size) < MIN_SIDE:
            raise OptionError(
                f"size={backbone.info.preprocess.size}: a critic needs images of {MIN_SIDE} pixels or more"
            )
        return ImageHead(backbone.info, self.channels, self.instance_norm, self.residual)

    def inference_step(
        self, network: Network | InferenceGraph, images: Tensor
    ) -> dict[str, Tensor]:
        """Make images, float (N, 3, height, width), of preprocessed ones."""
        from visiongraft.plugins.translation.head import made_images

        values = network.head(network.backbone(images))["image"]
        return {"image": made_images(values, images, network.preprocess, self.residual)}

    # ---- results ----

    def decode(self, outputs: dict[str, Tensor], sizes: Tensor) -> Decoded:
        """Clip images to the range of values.

        Args:
            outputs: ``image``, float (N, 3, H, W).
            sizes: Not used.

        Returns:
            ``image``, float32 (N, 3, H, W) in 0..1.
        """
        return {"image": outputs["image"].float().clamp(0.0, 1.0)}

    def predictions(self, decoded: Arrays) -> list[Translated]:
        return predictions(decoded, {})

    @property
    def _reverse(self) -> bool:
        return self.direction == "b_to_a"
