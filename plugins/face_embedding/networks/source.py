"""The backbones ``faces/...``, and their published checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil

from torch import Tensor, nn
from torch.nn.functional import pad

from visiongraft.backbone import Backbone, BackboneInfo, BackboneSource, Features, name_stages
from visiongraft.errors import BackboneError, WeightsError
from visiongraft.plugins.face_embedding.networks import inception_resnet, iresnet, mobilefacenet
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task_contract.published import Published

PREFIX = "faces"
SMALLEST = 80  # side in pixels that Inception-ResNet needs
CLASSIFIER = ("logits.",)  # of facenet-pytorch's checkpoints


@dataclass(frozen=True)
class FaceNetwork:
    """What is known about a network.

    Attributes:
        make: Creates it.
        size: Height and width of the images it was trained on.
        fixed: Whether it takes no other size.
        mean: Mean of the normalization.
        std: Standard deviation of the normalization.
        channels: Of its maps.
        strides: Of its maps.
        embedding: Length of its embedding.
        stage: Numbers the stage of a tensor by its name.
        resize: How aligned faces of 112 x 112 pixels become its input.
    """

    make: Callable[[], nn.Module]
    size: tuple[int, int]
    fixed: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    embedding: int
    stage: Callable[[str], int]
    resize: str


NETWORKS: dict[str, FaceNetwork] = {
    # The template of 96 columns is the middle of the one of 112, so that the sides are cropped.
    "mobilefacenet": FaceNetwork(
        mobilefacenet.MobileFaceNet,
        mobilefacenet.SIZE,
        True,
        mobilefacenet.MEAN,
        mobilefacenet.STD,
        mobilefacenet.CHANNELS,
        mobilefacenet.STRIDES,
        mobilefacenet.EMBEDDING,
        mobilefacenet.stage,
        "crop",
    ),
    **{
        name: FaceNetwork(
            partial(iresnet.IResNet, depths),
            iresnet.SIZE,
            True,
            iresnet.MEAN,
            iresnet.STD,
            iresnet.CHANNELS,
            iresnet.STRIDES,
            iresnet.EMBEDDING,
            iresnet.stage,
            "stretch",
        )
        for name, depths in iresnet.DEPTHS.items()
    },
    "inception_resnet_v1": FaceNetwork(
        inception_resnet.InceptionResnetV1,
        inception_resnet.SIZE,
        False,
        inception_resnet.MEAN,
        inception_resnet.STD,
        inception_resnet.CHANNELS,
        inception_resnet.STRIDES,
        inception_resnet.EMBEDDING,
        inception_resnet.stage,
        "stretch",
    ),
}


class FaceBackbone(Backbone):
    """A network that was made for faces; its pooled features are its embedding.

    Args:
        info: Facts about it.
        model: Returns maps and embedding.
    """

    def __init__(self, info: BackboneInfo, model: nn.Module) -> None:
        super().__init__(info)
        self.model = model

    def forward(self, images: Tensor) -> Features:
        maps, embedding = self.model(images)
        on_grid = (
            _on_grid(values, images, stride)
            for values, stride in zip(maps, self.info.strides, strict=True)
        )
        return Features(tuple(on_grid), embedding)

    def convert_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Name the tensors of published files as this module does; leave out their classifier."""
        return {
            n if n.startswith("model.") else f"model.{n}": t
            for n, t in weights.items()
            if not n.startswith(CLASSIFIER)
        }


def _on_grid(values: Tensor, images: Tensor, stride: int) -> Tensor:
    """Pad a map to one value for each ``stride`` pixels: layers without padding leave the border out."""
    height, width = (ceil(side / stride) for side in images.shape[2:])
    down, right = max(height - values.shape[2], 0), max(width - values.shape[3], 0)
    if not (down or right):
        return values
    return pad(values, (right // 2, right - right // 2, down // 2, down - down // 2))


class FaceSource(BackboneSource):
    """Provides networks that were published for faces."""

    prefix = PREFIX

    def names(self) -> Sequence[str]:
        return list(NETWORKS)

    def build(
        self,
        name: str,
        *,
        pretrained: bool,
        in_channels: int = 3,
        size: tuple[int, int] | None = None,
    ) -> Backbone:
        network, full = NETWORKS[name], f"{PREFIX}/{name}"
        if pretrained:
            raise WeightsError(
                f"backbone {full} has no weights that can be downloaded; pass weights=FILE, a published checkpoint, or "
                "None for random weights"
            )
        if in_channels != 3:
            raise BackboneError(f"backbone {full} takes 3 channels, not {in_channels}")
        size = size or network.size
        if network.fixed and size != network.size:
            height, width = network.size
            raise BackboneError(f"backbone {full} takes images of {height} x {width} pixels, not {size}; "
                                f"pass size={height}x{width}")  # fmt: skip
        if min(size) < SMALLEST:
            raise BackboneError(f"backbone {full} needs {SMALLEST} pixels on each side, not {size}")
        model = network.make()
        info = BackboneInfo(
            name=full,
            stage_of=name_stages({n: network.stage(n) for n in model.state_dict()}, "model."),
            channels=network.channels,
            strides=network.strides,
            embedding_dim=network.embedding,
            preprocess=PreprocessConfig(size, network.mean, network.std, resize=network.resize),
            provenance={"source": "visiongraft", "weights": "random"},
        )
        return FaceBackbone(info, model)


def read_published(tensors: Mapping[str, Tensor]) -> Published | None:
    """Recognize a published checkpoint of one of these networks; see ``Task.read_published``."""
    name = _recognized(tensors)
    if name is None:
        return None
    network = NETWORKS[name]
    unused = tuple(n for n in tensors if n.startswith(CLASSIFIER))
    return Published(
        name,
        f"{PREFIX}/{name}",
        {"head": "none", "dimension": network.embedding},
        tensors,
        {},
        unused,
        network.size,
        network.resize,
    )


def _recognized(tensors: Mapping[str, Tensor]) -> str | None:
    if "linear7.conv.weight" in tensors and "blocks.0.conv.0.weight" in tensors:
        return "mobilefacenet"
    if "repeat_1.0.branch0.conv.weight" in tensors and "last_linear.weight" in tensors:
        return "inception_resnet_v1"
    if "layer1.0.prelu.weight" not in tensors or "features.running_mean" not in tensors:
        return None
    depths = tuple(
        sum(f"layer{stage}.{block}.conv1.weight" in tensors for block in range(100))
        for stage in range(1, 5)
    )
    return next((name for name, own in iresnet.DEPTHS.items() if own == depths), None)
