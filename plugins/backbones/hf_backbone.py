"""Vision networks of transformers: which of their outputs are feature maps and embedding."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from visiongraft.backbone import Backbone, BackboneInfo, Features, name_stages
from visiongraft.errors import BackboneError
from visiongraft.plugins.backbones.batches import features_of_any_number
from visiongraft.plugins.backbones.blocks import repeated_blocks
from visiongraft.plugins.backbones.dry_run import dry_run
from visiongraft.plugins.backbones.errors import unsupported
from visiongraft.plugins.backbones.stages import layer_stages
from visiongraft.preprocess import PreprocessConfig

HfModel = Any  # a module of transformers; its attributes differ between families
Forward = Callable[[HfModel, Tensor], Features]


def token_features(model: HfModel, images: Tensor) -> Features:
    """Run a transformer of one resolution: its last patch tokens are the map.

    The embedding is the network's own pooled output, otherwise its class token.
    """
    options = {}
    if "interpolate_pos_encoding" in inspect.signature(model.forward).parameters:
        options["interpolate_pos_encoding"] = tuple(images.shape[2:]) != _pair(
            model.config.image_size
        )
    found = model(images, **options)
    tokens = found.last_hidden_state
    patch = _pair(model.config.patch_size)
    grid = images.shape[2] // patch[0], images.shape[3] // patch[1]
    patches = tokens[:, tokens.shape[1] - grid[0] * grid[1] :]
    pooled = getattr(found, "pooler_output", None)
    maps = patches.transpose(1, 2).unflatten(2, grid)
    return Features((maps,), tokens[:, 0] if pooled is None else pooled)


def window_features(model: HfModel, images: Tensor) -> Features:
    """Run a transformer of shifted windows: each stage ends with a map, before it is merged."""
    size = tuple(images.shape[2:]) != _pair(model.config.image_size)
    x, grid = model.embeddings(images, interpolate_pos_encoding=size)
    maps = []
    for stage in model.encoder.layers:
        x, image_map, _ = stage(x, grid, output_hidden_states_before_downsampling=True)
        maps.append(image_map)
        grid = ((grid[0] + 1) // 2, (grid[1] + 1) // 2)
    return Features(tuple(maps), model.layernorm(x).mean(1))


def stage_features(model: HfModel, images: Tensor) -> Features:
    """Run a convolutional network of stages, each of which returns a map."""
    x, maps = model.embeddings(images), []
    for stage in model.encoder.stages:
        x = stage(x)
        maps.append(x)
    return Features(tuple(maps), model.layernorm(x.mean((2, 3))))


def distilled_stage_features(model: HfModel, images: Tensor) -> Features:
    """Run DINOv3's convolutional network, which has no stem beside its stages."""
    x, maps = images, []
    for stage in model.model.stages:
        x = stage(x)
        maps.append(x)
    return Features(tuple(maps), model.layer_norm(x.mean((2, 3))))


@dataclass(frozen=True)
class Family:
    """A family of networks.

    Attributes:
        model: Name of the class in transformers.
        forward: How features are read off it.
        options: Arguments of the class beside the configuration. Pooling layers are left out where published
            weights may lack them, which would then be random.
        attention: Implementation of attention; that of windows cannot be exported with ``"sdpa"``.
    """

    model: str
    forward: Forward
    options: Mapping[str, Any] = field(default_factory=dict)
    attention: str | None = None


# Tensors of published files that belong to other parts than the vision network.
OTHER_PARTS = re.compile(
    r"(^|\.)(\w*classifier|pooler|decoder|text_model|logit_scale|logit_bias|\w+_projection)(\.|$)"
    r"|mask_token|position_ids"
)
NO_POOLING = {"add_pooling_layer": False}
FAMILIES = {
    "clip_vision_model": Family("CLIPVisionModel", token_features),
    "convnext": Family("ConvNextModel", stage_features),
    "convnextv2": Family("ConvNextV2Model", stage_features),
    "deit": Family("DeiTModel", token_features, NO_POOLING),
    "dinov2": Family("Dinov2Model", token_features),
    "dinov2_with_registers": Family("Dinov2WithRegistersModel", token_features),
    "dinov3_convnext": Family("DINOv3ConvNextModel", distilled_stage_features),
    "dinov3_vit": Family("DINOv3ViTModel", token_features),
    "siglip_vision_model": Family("SiglipVisionModel", token_features),
    "swin": Family("SwinModel", window_features, NO_POOLING, "eager"),
    "vit": Family("ViTModel", token_features, NO_POOLING),
}


def family_of(name: str, kind: str) -> Family:
    """Return the family of a configuration's ``model_type``.

    Raises:
        BackboneError: It is not among ``FAMILIES``.
    """
    if kind not in FAMILIES:
        raise BackboneError(
            f"{name} is a network of the type {kind!r}; those of {', '.join(FAMILIES)} can be used"
        )
    return FAMILIES[kind]


class HfBackbone(Backbone):
    """A vision network of transformers without its classifier.

    Args:
        info: Facts about the backbone.
        model: The network.
        family: Its family.
    """

    def __init__(self, info: BackboneInfo, model: HfModel, family: Family) -> None:
        super().__init__(info)
        self.model = model
        self.family = family

    @classmethod
    def around(
        cls, model: HfModel, name: str, preprocess: PreprocessConfig, **facts: Any
    ) -> HfBackbone:
        """Wrap a network, and derive the facts about it from one forward pass.

        Args:
            model: The network.
            name: Full name of the backbone.
            preprocess: How images are prepared, with number of channels and size.
            facts: ``provenance`` and ``architecture``, as in ``BackboneInfo``.

        Returns:
            The backbone, in training mode.

        Raises:
            BackboneError: The network does not support the size.
        """
        family = family_of(name, model.config.model_type)
        channels, height = len(preprocess.mean), preprocess.size[0]
        _drop_mask_token(model)
        _check_whole_patches(name, model, family, preprocess.size)
        found = dry_run(name, model, lambda x: family.forward(model, x), channels, preprocess.size)
        info = BackboneInfo(
            name=name,
            stage_of=name_stages(layer_stages(model, found.called), "model."),
            channels=tuple(x.shape[1] for x in found.features.maps),
            strides=tuple(round(height / x.shape[2]) for x in found.features.maps),
            embedding_dim=found.features.pooled.shape[1],
            preprocess=preprocess,
            in_channels=channels,
            **facts,
        )
        return cls(info, model, family)

    def forward(self, images: Tensor) -> Features:
        return features_of_any_number(lambda x: self.family.forward(self.model, x), images)

    def checkpointed_modules(self) -> Sequence[nn.Module]:
        return repeated_blocks(self.model)

    def published(self, source: str | None, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """Read tensors by transformers' own code, which knows the names of older files.

        Args:
            source: A repository or a folder; ``None`` for tensors that were read already.
            tensors: The latter.

        Returns:
            Tensors by the names of ``state_dict()``; those that are missing are not among them, and those
            that do not belong to the network or to other parts of a published one keep their names.
        """
        config = type(self.model.config).from_dict(self.info.architecture)
        with quiet():
            loaded, report = type(self.model).from_pretrained(
                source,
                config=config,
                state_dict=tensors,
                dtype=torch.float32,
                output_loading_info=True,
                **self.family.options,
            )
        random = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
        found = {
            f"model.{name}": tensor
            for name, tensor in loaded.state_dict().items()
            if name not in random and "mask_token" not in name
        }
        odd = (name for name in report["unexpected_keys"] if not OTHER_PARTS.search(name))
        return found | {name: (tensors or {}).get(name, torch.empty(0)) for name in odd}

    def convert_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        own = self.state_dict()
        if any(name in own for name in weights):
            return weights
        try:
            return self.published(None, dict(weights))
        except Exception:  # of a file of another architecture; the mismatch is reported later
            return weights


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what transformers prints while it loads: missing tensors are reported as errors here."""
    from transformers.utils import logging

    before, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bar:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _drop_mask_token(model: HfModel) -> None:
    """Drop the token that replaces masked patches in pretraining: nothing else trains it."""
    for module in model.modules():
        if isinstance(getattr(module, "mask_token", None), nn.Parameter):
            module.mask_token = None


def _check_whole_patches(name: str, model: HfModel, family: Family, size: tuple[int, int]) -> None:
    """Reject a size that is not a multiple of the patch size: its border would be ignored."""
    if family.forward is token_features:
        patch = _pair(model.config.patch_size)
        if any(side % p for side, p in zip(size, patch, strict=True)):
            raise unsupported(
                name, size, f"images must consist of whole {patch[0]}x{patch[1]} patches"
            )
