"""Backbones from torchvision: all of its classification architectures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import GoogLeNet, Inception3, MaxVit, VisionTransformer, WeightsEnum
from torchvision.transforms import InterpolationMode

from visiongraft.backbone import Backbone, BackboneSource, Recommendation
from visiongraft.errors import one_line
from visiongraft.plugins.backbones.blocks import set_image_channels
from visiongraft.plugins.backbones.classifiers import linear_classifier
from visiongraft.plugins.backbones.dilated import dilation_options, is_dilated, undilated
from visiongraft.plugins.backbones.errors import unavailable, unsupported
from visiongraft.plugins.backbones.torchvision_chain import ChainBackbone
from visiongraft.plugins.backbones.torchvision_vit import VitBackbone
from visiongraft.preprocess import PreprocessConfig
from visiongraft.saving.weights import fit_weights

Size = tuple[int, int]

RECOMMENDED = (
    "shufflenet_v2_x1_0",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "regnet_y_400mf",
    "regnet_y_1_6gf",
    "resnet18",
    "resnet50",
    "convnext_tiny",
    "convnext_small",
    "swin_t",
    "swin_v2_t",
    "efficientnet_v2_s",
    "vit_b_16",
)
CLASSIFIERS = ("classifier", "fc", "head", "heads")  # modules whose last layer is the classifier


class TorchvisionSource(BackboneSource):
    """Provides every classification architecture of torchvision.

    Residual networks also end in stride 8 if ``_dilated`` follows their name, with the same weights.
    """

    prefix = "torchvision"

    def accepts(self, name: str) -> bool:
        return undilated(name) in _names() and (is_dilated(name) or undilated(name) == name)

    def names(self) -> Sequence[str]:
        return _names()

    def recommended(self) -> Sequence[Recommendation]:
        return [_recommendation(f"{self.prefix}/{name}", name) for name in RECOMMENDED]

    def example(self) -> str:
        return "squeezenet1_1"

    def build(
        self,
        name: str,
        *,
        pretrained: bool,
        in_channels: int = 3,
        size: tuple[int, int] | None = None,
    ) -> Backbone:
        full = f"{self.prefix}/{name}"
        published: WeightsEnum = torchvision.models.get_model_weights(undilated(name)).DEFAULT
        preprocess = _preprocess(published, size)
        model = _create(full, name, preprocess.size)
        if isinstance(model, (GoogLeNet, Inception3)):
            # Their weights expect -1..1; torchvision's modules convert the inputs internally.
            half = (0.5, 0.5, 0.5)
            preprocess = PreprocessConfig(
                preprocess.size, half, half, crop_fraction=preprocess.crop_fraction
            )
        if in_channels != 3:
            set_image_channels(model, in_channels)
        kind = VitBackbone if isinstance(model, VisionTransformer) else ChainBackbone
        backbone = kind.around(
            model,
            full,
            preprocess.with_channels(in_channels),
            # Strides and stages are measured at the architecture's default size.
            preprocess.size if isinstance(model, MaxVit) else _default_size(published),
            provenance(published, pretrained),
        )
        if is_dilated(name):  # all of its last stages have one resolution; the names are the same
            plain = self.build(undilated(name), pretrained=False, in_channels=in_channels)
            backbone.info = replace(backbone.info, stage_of=plain.info.stage_of)
        if pretrained:
            load_published(backbone, published)
        return backbone

    def build_classifier(
        self, name: str, weights: Mapping[str, Tensor] | None = None
    ) -> nn.Module | None:
        if weights is None:
            published: WeightsEnum = torchvision.models.get_model_weights(undilated(name)).DEFAULT
            weights = _download(f"{self.prefix}/{name}", published)
        names = [n.removeprefix("model.").removesuffix(".weight") for n in weights]
        heads = [n for n in names if n.split(".")[0] in CLASSIFIERS and not n.endswith(".bias")]
        # Convolutions are followed by more than an average, as in squeezenet.
        plain = {n.removeprefix("model."): t for n, t in weights.items() if t.ndim < 4}
        return linear_classifier(plain, reversed(heads))


def _recommendation(full: str, name: str) -> Recommendation:
    """Describe a backbone by what torchvision publishes of its weights."""
    published: WeightsEnum = torchvision.models.get_model_weights(name).DEFAULT
    meta, file = published.meta, Path(published.url).name
    return Recommendation(
        full,
        meta["num_params"] / 1e6,
        meta["_ops"],
        meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100,
        "torchvision",
        meta.get("license", "unknown"),
        (Path(torch.hub.get_dir()) / "checkpoints" / file).is_file(),
    )


@cache
def _names() -> tuple[str, ...]:
    return tuple(torchvision.models.list_models(module=torchvision.models))


def provenance(published: WeightsEnum, pretrained: bool) -> dict[str, str]:
    """Return where the weights of a backbone come from, for ``BackboneInfo.provenance``."""
    source = f"torchvision {torchvision.__version__}"
    if not pretrained:
        return {"source": source, "weights": "random"}
    known = {"source": source, "weights": str(published)}
    if "license" in published.meta:
        known["license"] = published.meta["license"]
    for dataset, metrics in published.meta.get("_metrics", {}).items():
        known["accuracy"] = f"{metrics['acc@1'] / 100:.4f} on {dataset}"
    return known


def _default_size(published: WeightsEnum) -> Size:
    side = published.transforms().crop_size[0]
    return side, side


def _preprocess(published: WeightsEnum, size: Size | None) -> PreprocessConfig:
    transforms = published.transforms()
    bilinear = transforms.interpolation is InterpolationMode.BILINEAR
    return PreprocessConfig(
        size=size or _default_size(published),
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation="bilinear" if bilinear else "bicubic",
        crop_fraction=min(transforms.crop_size[0] / transforms.resize_size[0], 1.0),
    )


def _create(full: str, name: str, size: Size) -> nn.Module:
    options = dilation_options(name)
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True}
    elif name.startswith("maxvit"):
        options = {"input_size": size}
    elif name.startswith("vit"):
        if size[0] != size[1]:
            raise unsupported(full, size, "its position embeddings are square")
        options = {"image_size": size[0]}
    try:
        model: nn.Module = torchvision.models.get_model(undilated(name), weights=None, **options)
    except (ValueError, AssertionError, RuntimeError) as error:
        raise unsupported(full, size, one_line(error)) from error
    return model


def load_published(backbone: Backbone, published: WeightsEnum) -> None:
    """Download the weights that torchvision publishes, and fit them to a backbone.

    Raises:
        WeightsError: They could not be downloaded, or do not fit.
    """
    tensors = _download(backbone.info.name, published)
    fit_weights(backbone, tensors, f"published weights {published}")


def _download(name: str, published: WeightsEnum) -> dict[str, Tensor]:
    try:
        return dict(published.get_state_dict(progress=True, check_hash=True))
    except Exception as error:  # a download can fail in many ways
        raise unavailable(name, f"the hub cannot be reached: {one_line(error)}") from error
