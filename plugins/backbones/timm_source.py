"""Backbones from timm: all of its classification architectures."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from visiongraft.backbone import (
    Backbone,
    BackboneInfo,
    BackboneSource,
    Features,
    Recommendation,
    name_stages,
)
from visiongraft.errors import BackboneError, one_line
from visiongraft.plugins.backbones.blocks import repeated_blocks
from visiongraft.plugins.backbones.classifiers import linear_classifier
from visiongraft.plugins.backbones.dry_run import dry_run
from visiongraft.plugins.backbones.errors import unavailable, unsupported
from visiongraft.plugins.backbones.hub import (
    HUB,
    check_folder,
    check_reachable,
    checked_downloads,
    explain,
    explained,
    is_failed_download,
    is_published,
    license_of,
    shown,
    source_of,
)
from visiongraft.plugins.backbones.stages import timm_stages
from visiongraft.preprocess import PreprocessConfig

TimmModel = Any  # an nn.Module; timm's models share methods that no type declares

# Parameters in millions, multiply-accumulate operations in billions as PyTorch's FlopCounterMode counts them at the
# size of the test, and top-1 accuracy by timm's table of results (results-imagenet.csv, 2023).
RECOMMENDED = {
    "convnextv2_nano.fcmae_ft_in22k_in1k": (15.62, 4.042, 0.82664),
    "deit3_small_patch16_224.fb_in22k_ft_in1k": (22.06, 4.599, 0.83074),
    "swin_small_patch4_window7_224.ms_in22k_ft_in1k": (49.61, 8.741, 0.83298),
    "convnextv2_tiny.fcmae_ft_in1k": (28.64, 7.365, 0.83464),
    "tf_efficientnetv2_s.in21k_ft_in1k": (21.46, 8.366, 0.84288),
}
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class TimmSource(BackboneSource):
    """Provides every timm architecture, and every set of pretrained weights as ``name.tag``."""

    prefix = "timm"

    def names(self) -> Sequence[str]:
        return _names()

    def accepts(self, name: str) -> bool:
        return is_published(name) or name in _names()

    def recommended(self) -> Sequence[Recommendation]:
        return [_recommendation(f"{self.prefix}/{name}", name) for name in RECOMMENDED]

    def example(self) -> str:
        return "test_resnet"

    def build(
        self,
        name: str,
        *,
        pretrained: bool,
        in_channels: int = 3,
        size: tuple[int, int] | None = None,
    ) -> Backbone:
        full = f"{self.prefix}/{shown(name)}"
        if is_published(name):
            return _build_published(full, name, in_channels, size, pretrained)
        if not pretrained:
            model = create_timm_model(full, name, in_channels, size)
            return TimmBackbone.around(model, full, in_channels, size)
        _check_weights_available(full, name)
        try:
            with checked_downloads(full):
                model = create_timm_model(full, name, in_channels, size, pretrained=True)
        except BackboneError as error:
            # If building without the weights fails as well, the weights are not the cause.
            self.build(name, pretrained=False, in_channels=in_channels, size=size)
            raise unavailable(full, explain(error.__cause__ or error)) from error
        return TimmBackbone.around(model, full, in_channels, size, pretrained=True)

    def rebuild(
        self,
        name: str,
        architecture: Mapping[str, Any],
        *,
        in_channels: int,
        size: tuple[int, int],
    ) -> Backbone:
        if not architecture:
            return self.build(name, pretrained=False, in_channels=in_channels, size=size)
        full, arguments = f"{self.prefix}/{name}", architecture["arguments"]
        model = create_timm_model(
            full, architecture["name"], in_channels, size, arguments=arguments
        )
        backbone = TimmBackbone.around(model, full, in_channels, size)
        backbone.info = replace(backbone.info, architecture=dict(architecture))
        return backbone

    def build_classifier(
        self, name: str, weights: Mapping[str, Tensor] | None = None
    ) -> nn.Module | None:
        import timm

        full = f"{self.prefix}/{name}"
        config = timm.get_pretrained_cfg(name)
        classifier = (config and config.classifier) or ()
        modules = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        if weights is None:
            _check_weights_available(full, name)
            try:
                weights = timm.create_model(name, pretrained=True).state_dict()
            except Exception as error:  # a download can fail in many ways
                raise unavailable(full, explain(error)) from error
        else:
            weights = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
        return linear_classifier(weights, modules)


class TimmBackbone(Backbone):
    """A timm model without its classifier.

    Args:
        info: Facts about the backbone.
        model: The model, built with ``num_classes=0``.
        levels: Indices of the intermediate feature maps to return, one per stride.
    """

    def __init__(self, info: BackboneInfo, model: TimmModel, levels: Sequence[int]) -> None:
        super().__init__(info)
        self.model = model
        self.levels = list(levels)

    @classmethod
    def around(
        cls,
        model: TimmModel,
        name: str,
        in_channels: int,
        size: tuple[int, int] | None,
        pretrained: bool = False,
    ) -> TimmBackbone:
        """Wrap a model, and derive the facts about it from one forward pass.

        Args:
            model: A timm model built with ``num_classes=0``.
            name: Full name of the backbone.
            in_channels: Number of image channels it was built for.
            size: Height and width it was built for, or ``None`` for its default.
            pretrained: Whether it has pretrained weights.

        Returns:
            The backbone, in training mode.

        Raises:
            BackboneError: The architecture does not support this size, or returns no feature maps.
        """
        config: dict[str, Any] = model.pretrained_cfg
        height, width = size or config["input_size"][-2:]
        _check_whole_patches(name, model, (height, width))
        found = dry_run(
            name,
            model,
            lambda images: _forward(model, images, None),
            in_channels,
            (height, width),
            default_size=size is None,
        )
        strides = _strides(model, found.features.maps, height)
        levels = {stride: i for i, stride in enumerate(strides)}  # the last map of each stride
        info = BackboneInfo(
            name=name,
            stage_of=name_stages(timm_stages(model, found.called), "model."),
            channels=tuple(found.features.maps[levels[s]].shape[1] for s in sorted(levels)),
            strides=tuple(sorted(levels)),
            embedding_dim=found.features.pooled.shape[1],
            preprocess=_preprocess(config, (height, width)).with_channels(in_channels),
            in_channels=in_channels,
            provenance=_provenance(config, pretrained),
        )
        return cls(info, model, [levels[s] for s in sorted(levels)])

    def forward(self, images: Tensor) -> Features:
        return _forward(self.model, images, self.levels)

    def unpooled(self, features: Features) -> Tensor:
        """Return the coarsest map; of EfficientNets and MobileNetV2 what their last convolution makes of it."""
        from timm.models.efficientnet import EfficientNet

        if not isinstance(self.model, EfficientNet):
            return super().unpooled(features)
        made: Tensor = self.model.bn2(self.model.conv_head(features.maps[-1]))
        return made

    def checkpointed_modules(self) -> Sequence[nn.Module]:
        return repeated_blocks(self.model)

    def convert_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        weights = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
        convert = _checkpoint_filter(self.model)
        if convert is not None:
            # It may fail on a file of another architecture; mismatches are reported later.
            with suppress(Exception):
                weights = convert(dict(weights))
        own = self.model.state_dict()
        classifier = self.model.pretrained_cfg.get("classifier") or ()
        heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        return {
            f"model.{name}": tensor
            for name, tensor in weights.items()
            if name in own or name.rpartition(".")[0] not in heads
        }


def _recommendation(full: str, name: str) -> Recommendation:
    import timm
    from huggingface_hub import try_to_load_from_cache

    config: Any = timm.get_pretrained_cfg(name)
    parameters, gmacs, accuracy = RECOMMENDED[name]
    cached = try_to_load_from_cache(config.hf_hub_id, HUB_FILES[0])
    return Recommendation(
        full,
        parameters,
        gmacs,
        accuracy,
        "timm's results",
        config.license or "unknown",
        isinstance(cached, str),
    )


def _forward(model: TimmModel, images: Tensor, levels: list[int] | None) -> Features:
    last, maps = model.forward_intermediates(images, indices=levels)
    pooled = model.forward_head(last, pre_logits=True)
    return Features(tuple(maps), pooled)


@cache
def _names() -> tuple[str, ...]:
    import timm

    return tuple(sorted({*timm.list_models(), *timm.list_pretrained()}))


def create_timm_model(
    full: str,
    name: str,
    in_channels: int,
    size: tuple[int, int] | None,
    *,
    pretrained: bool = False,
    arguments: Mapping[str, Any] = MappingProxyType({}),
) -> TimmModel:
    """Build a model without classifier, passing the size if the architecture depends on it.

    Args:
        full: Full name of the backbone, for messages.
        name: timm's name, with or without tag.
        in_channels: Number of image channels.
        size: Height and width in pixels, or ``None`` for its default.
        pretrained: Load its pretrained weights.
        arguments: Further arguments of the architecture.

    Returns:
        The model.

    Raises:
        BackboneError: It cannot be built with these options, or the weights are unavailable.
    """
    import timm

    options: dict[str, Any] = {"pretrained": pretrained, "num_classes": 0, "in_chans": in_channels}
    options |= arguments
    try:
        if size is None:
            return timm.create_model(name, **options)
        try:
            return timm.create_model(name, img_size=size, **options)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            return timm.create_model(name, **options)
    except Exception as error:  # architectures raise anything on unsupported options
        raise unsupported(full, size, one_line(error)) from error


def _build_published(
    full: str, name: str, in_channels: int, size: tuple[int, int] | None, pretrained: bool
) -> TimmBackbone:
    """Build a model of a repository or a folder, which contain its configuration and its weights."""
    from timm.models._hub import load_model_config_from_hf, load_model_config_from_path

    source = source_of(name)
    check_folder(full, name)
    if name.startswith(HUB):
        check_reachable(full, source, ["config.json"])
    with explained(full, source):
        read = load_model_config_from_hf if name.startswith(HUB) else load_model_config_from_path
        _, architecture, arguments = read(source)
    try:
        with checked_downloads(full):
            model = create_timm_model(full, name, in_channels, size, pretrained=pretrained)
    except BackboneError as error:
        if is_failed_download(error) or (pretrained and isinstance(error.__cause__, OSError)):
            raise unavailable(full, explain(error.__cause__ or error)) from error
        raise
    backbone = TimmBackbone.around(model, full, in_channels, size, pretrained=pretrained)
    provenance = dict(backbone.info.provenance)
    if pretrained:
        provenance["weights"] = shown(name)
        if provenance["license"] == "unknown":
            provenance["license"] = license_of(source)
    kept = {"name": architecture, "arguments": arguments}
    backbone.info = replace(backbone.info, provenance=provenance, architecture=kept)
    return backbone


def _check_whole_patches(name: str, model: TimmModel, size: tuple[int, int]) -> None:
    """Reject a size that is not a multiple of the patch size: its border would be ignored."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if isinstance(patch, tuple) and any(s % p for s, p in zip(size, patch, strict=True)):
        raise unsupported(name, size, f"images must consist of whole {patch[0]}x{patch[1]} patches")


def _strides(model: TimmModel, maps: Sequence[Tensor], height: int) -> list[int]:
    """Return the stride of each feature map: the declared one unless the map contradicts it."""
    declared = [int(entry["reduction"]) for entry in model.feature_info]
    strides = []
    for stride, rows in zip(declared, (m.shape[2] for m in maps), strict=True):
        # Convolutions without padding lose a few rows; a wrong declaration is off by a factor.
        fits = -(-height // stride) - 5 <= rows <= -(-height // stride) + 1
        strides.append(stride if fits else round(height / rows))
    return strides


def _preprocess(config: dict[str, Any], size: tuple[int, int]) -> PreprocessConfig:
    return PreprocessConfig(
        size=size,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        resize="stretch" if config.get("crop_mode") == "squash" else "crop",
        crop_fraction=min(config["crop_pct"], 1.0),
    )


def _provenance(config: dict[str, Any], pretrained: bool) -> dict[str, str]:
    import timm

    source = f"timm {timm.__version__}"
    if not pretrained:
        return {"source": source, "weights": "random"}
    weights = ".".join(filter(None, (config["architecture"], config.get("tag"))))
    return {"source": source, "weights": weights, "license": config.get("license") or "unknown"}


def _checkpoint_filter(model: TimmModel) -> Callable[[dict[str, Tensor]], dict[str, Tensor]] | None:
    """Find the function with which an architecture's module converts published checkpoints."""
    module = sys.modules[type(model).__module__]
    named = {
        name: function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if "filter" in name and function.__module__ == module.__name__
    }
    if not named:
        return None
    convert = named.get("checkpoint_filter_fn") or next(iter(named.values()))
    if len(inspect.signature(convert).parameters) == 1:
        return convert
    return lambda weights: convert(weights, model)


def _check_weights_available(full: str, name: str) -> None:
    """Raise at once if the weights do not exist or the hub does not respond."""
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise unavailable(full, "none are published")
    if not config.hf_hub_id:
        return
    repository, _, revision = config.hf_hub_id.partition("@")
    files = [config.hf_hub_filename] if config.hf_hub_filename else HUB_FILES
    check_reachable(full, repository, files, revision)
