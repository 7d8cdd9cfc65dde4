"""Backbones from open_clip: the image towers of networks of images and text (CLIP, SigLIP and others)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from visiongraft.backbone import Backbone, BackboneInfo, BackboneSource, Features, name_stages
from visiongraft.errors import BackboneError, WeightsError, one_line
from visiongraft.plugins.backbones.batches import features_of_any_number
from visiongraft.plugins.backbones.blocks import repeated_blocks, set_image_channels
from visiongraft.plugins.backbones.dry_run import dry_run
from visiongraft.plugins.backbones.errors import missing_library, unavailable, unsupported
from visiongraft.plugins.backbones.hub import (
    FOLDER,
    HUB,
    check_folder,
    check_reachable,
    explained,
    is_published,
    license_of,
    shown,
    source_of,
)
from visiongraft.plugins.backbones.logs import root_logger_kept
from visiongraft.plugins.backbones.stages import layer_stages
from visiongraft.preprocess import PreprocessConfig
from visiongraft.saving.weights import fit_weights

CONFIG = "open_clip_config.json"
WEIGHTS = ("*.safetensors", "*.bin", "*.pth")  # files that open_clip finds in a folder
VISUAL = "visual."  # prefix of the tower's tensors in files of whole networks
Tower = Any  # towers of open_clip share methods that no type declares


class OpenClipSource(BackboneSource):
    """Provides the image towers of open_clip: ``model.weights``, ``hf-hub:org/name``, ``local-dir:PATH``."""

    prefix = "open_clip"

    def names(self) -> Sequence[str]:
        return _names()

    def accepts(self, name: str) -> bool:
        if is_published(name):
            return True
        return _is_installed() and (name in _names() or name in _architectures())

    def lacks(self, name: str) -> str:
        return "" if _is_installed() else str(_not_installed(f"{self.prefix}/{name}"))

    def build(
        self,
        name: str,
        *,
        pretrained: bool,
        in_channels: int = 3,
        size: tuple[int, int] | None = None,
    ) -> Backbone:
        full = f"{self.prefix}/{shown(name)}"
        architecture, preprocess = read_configuration(full, name)
        backbone = _build(full, architecture, preprocess, in_channels, size)
        if pretrained:
            _load_published(backbone, name)
        return backbone

    def rebuild(
        self,
        name: str,
        architecture: Mapping[str, Any],
        *,
        in_channels: int,
        size: tuple[int, int],
    ) -> Backbone:
        _require(f"{self.prefix}/{name}")
        return _build(f"{self.prefix}/{name}", architecture, {}, in_channels, size)


class OpenClipBackbone(Backbone):
    """The image tower of a network of images and text; its embedding is the projected one.

    Args:
        info: Facts about the backbone.
        tower: The image tower.
        levels: Indices of the intermediate feature maps to return, one per stride.
    """

    def __init__(self, info: BackboneInfo, tower: Tower, levels: Sequence[int]) -> None:
        super().__init__(info)
        self.model = tower
        self.levels = list(levels)

    def forward(self, images: Tensor) -> Features:
        return features_of_any_number(lambda x: _forward(self.model, x, self.levels), images)

    def checkpointed_modules(self) -> Sequence[nn.Module]:
        return repeated_blocks(self.model)

    def convert_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take the image tower out of a file of the whole network."""
        own = self.state_dict()
        if any(name in own for name in weights):
            return weights
        tower = {n.removeprefix(VISUAL): t for n, t in weights.items() if n.startswith(VISUAL)}
        return {f"model.{name}": tensor for name, tensor in (tower or weights).items()}


def _forward(tower: Tower, images: Tensor, levels: Sequence[int] | None) -> Features:
    found = tower.forward_intermediates(images, indices=levels)
    return Features(tuple(found["image_intermediates"]), found["image_features"])


def _build(
    full: str,
    architecture: Mapping[str, Any],
    preprocess: Mapping[str, Any],
    in_channels: int,
    size: tuple[int, int] | None,
) -> OpenClipBackbone:
    """Build a tower with random weights.

    Args:
        full: Full name of the backbone.
        architecture: ``embed_dim``, ``vision_cfg`` and ``quick_gelu`` of the network's configuration.
        preprocess: Those of open_clip's settings of preprocessing that are not at their defaults.
        in_channels: Number of image channels.
        size: Network input; the architecture's own if ``None``.
    """
    import open_clip
    from open_clip.model import _build_vision_tower

    image = size or architecture["vision_cfg"].get("image_size", 224)
    height, width = (image, image) if isinstance(image, int) else (image[0], image[1])
    try:
        with root_logger_kept():
            tower: Tower = _build_vision_tower(
                architecture["embed_dim"],
                {**architecture["vision_cfg"], "image_size": (height, width)},
                architecture.get("quick_gelu", False),
            )
    except Exception as error:  # architectures raise anything on unsupported sizes
        raise unsupported(full, size, one_line(error)) from error
    if in_channels != 3:
        set_image_channels(tower, in_channels)
    found = dry_run(full, tower, lambda x: _forward(tower, x, None), in_channels, (height, width))
    levels = {round(height / each.shape[2]): i for i, each in enumerate(found.features.maps)}
    info = BackboneInfo(
        name=full,
        stage_of=name_stages(layer_stages(tower, found.called), "model."),
        channels=tuple(found.features.maps[levels[s]].shape[1] for s in sorted(levels)),
        strides=tuple(sorted(levels)),
        embedding_dim=found.features.pooled.shape[1],
        preprocess=_preprocess(preprocess, (height, width)).with_channels(in_channels),
        in_channels=in_channels,
        provenance={"source": f"open_clip {open_clip.__version__}", "weights": "random"},
        architecture=dict(architecture),
    )
    return OpenClipBackbone(info, tower, [levels[s] for s in sorted(levels)])


def read_configuration(full: str, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the configuration of a network's image tower, and that of its preprocessing.

    Args:
        full: Full name, for messages.
        name: The part after the prefix.

    Raises:
        BackboneError: There is no such network.
        WeightsError: It could not be downloaded.
    """
    _require(full)
    import open_clip
    from huggingface_hub import hf_hub_download

    if is_published(name):
        source = source_of(name)
        check_folder(full, name)
        if name.startswith(HUB):
            check_reachable(full, source, [CONFIG])
        with explained(full, source):
            path = (
                Path(source) / CONFIG
                if name.startswith(FOLDER)
                else hf_hub_download(source, CONFIG)
            )
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            model, preprocess = content["model_cfg"], content.get("preprocess_cfg", {})
    else:
        kind, _, tag = name.partition(".")
        model = open_clip.get_model_config(kind)
        preprocess = open_clip.get_pretrained_cfg(kind, tag) if tag else {}
    kept = {key: model[key] for key in ("embed_dim", "vision_cfg", "quick_gelu") if key in model}
    if preprocess.get("quick_gelu"):
        kept["quick_gelu"] = True
    return json.loads(json.dumps(kept)), preprocess


def _load_published(backbone: OpenClipBackbone, name: str) -> None:
    """Load the weights of a network's image tower by open_clip's own code."""
    import open_clip

    full, size = backbone.info.name, backbone.info.preprocess.size
    kind, tag = split_tag(full, name)
    source = source_of(name)
    with explained(full, source), root_logger_kept():
        model = open_clip.create_model(
            kind, pretrained=tag, force_image_size=size, require_pretrained=True
        )
    tensors = {f"model.{n}": t for n, t in model.visual.state_dict().items()}
    fit_weights(backbone, tensors, f"the weights of {full}")
    provenance = {
        **backbone.info.provenance,
        "weights": shown(name),
        "license": license_of_weights(name),
    }
    backbone.info = replace(backbone.info, provenance=provenance)


def split_tag(full: str, name: str) -> tuple[str, str | None]:
    """Split a name into network and published weights, as ``open_clip.create_model`` takes them.

    Args:
        full: Full name, for messages.
        name: The part after the prefix.

    Raises:
        WeightsError: The name, or the folder, lacks the weights.
    """
    import open_clip

    folder = Path(source_of(name))
    if name.startswith(FOLDER) and not any(any(folder.glob(kind)) for kind in WEIGHTS):
        raise WeightsError(
            f"{full}: {folder} contains no weights, such as open_clip_model.safetensors"
        )
    kind, _, tag = (name, "", "") if is_published(name) else name.partition(".")
    if not (tag or is_published(kind)):
        tags = open_clip.list_pretrained_tags_by_model(kind)
        raise unavailable(full, f"there are several: add one of .{', .'.join(tags)} to the name")
    return kind, tag or None


def license_of_weights(name: str) -> str:
    """Return the license of published weights, ``"unknown"`` if none is stated."""
    return license_of(source_of(name)) if is_published(name) else "unknown"


def _preprocess(settings: Mapping[str, Any], size: tuple[int, int]) -> PreprocessConfig:
    from open_clip.transform import PreprocessCfg

    known = PreprocessCfg(
        **{k: settings[k] for k in ("mean", "std", "interpolation", "resize_mode") if k in settings}
    )
    return PreprocessConfig(
        size=size,
        mean=tuple(known.mean),
        std=tuple(known.std),
        interpolation="bilinear" if known.interpolation == "bilinear" else "bicubic",
        resize="stretch" if known.resize_mode == "squash" else "crop",
    )


def _is_installed() -> bool:
    try:
        import open_clip  # noqa: F401
    except ImportError:
        return False
    return True


def _require(full: str) -> None:
    if not _is_installed():
        raise _not_installed(full)


def _not_installed(full: str) -> BackboneError:
    return missing_library(full, "open_clip_torch", "open-clip")


@cache
def _names() -> tuple[str, ...]:
    if not _is_installed():
        return ()
    import open_clip

    return tuple(f"{model}.{tag}" for model, tag in open_clip.list_pretrained())


@cache
def _architectures() -> frozenset[str]:
    import open_clip

    return frozenset(open_clip.list_models())
