"""Backbones by transformers: repositories of a hub, and local folders in the same layout."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from visiongraft.backbone import Backbone, BackboneSource
from visiongraft.errors import BackboneError, WeightsError, one_line
from visiongraft.plugins.backbones.errors import missing_library, unsupported
from visiongraft.plugins.backbones.hf_backbone import HfBackbone, family_of
from visiongraft.plugins.backbones.hf_preprocess import DEFAULT, read_preprocess
from visiongraft.plugins.backbones.hub import check_reachable, explained, license_of
from visiongraft.preprocess import PreprocessConfig
from visiongraft.saving.weights import fit_weights

CONFIG = "config.json"
REPOSITORY = re.compile(r"\w[\w.-]*/[\w.-]+")
KNOWN = (
    "facebook/dinov2-small",
    "facebook/dinov2-base",
    "facebook/dinov2-with-registers-small",
    "facebook/dinov3-vits16-pretrain-lvd1689m",
    "facebook/dinov3-convnext-tiny-pretrain-lvd1689m",
    "facebook/deit-tiny-patch16-224",
    "facebook/convnext-tiny-224",
    "facebook/convnextv2-tiny-1k-224",
    "google/siglip-base-patch16-224",
    "google/vit-base-patch16-224-in21k",
    "microsoft/swin-tiny-patch4-window7-224",
    "openai/clip-vit-base-patch32",
)


class HfSource(BackboneSource):
    """Provides the vision networks of transformers: ``hf/org/name``, or a local folder."""

    prefix = "hf"

    def names(self) -> Sequence[str]:
        return KNOWN

    def accepts(self, name: str) -> bool:
        folder = Path(name)
        if folder.is_dir():
            return _is_configuration(folder / CONFIG)
        return "/" in name

    def build(
        self,
        name: str,
        *,
        pretrained: bool,
        in_channels: int = 3,
        size: tuple[int, int] | None = None,
    ) -> Backbone:
        full = self.full_name(name)
        config = _read_config(full, name)
        if not pretrained:
            return _build(full, config, DEFAULT, in_channels, size)
        with explained(full, name):
            preprocess = read_preprocess(name)
        backbone = _build(full, config, preprocess, in_channels, size or preprocess.size)
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
        full = self.full_name(name)
        require_transformers(full)
        from transformers import CONFIG_MAPPING

        family_of(full, architecture["model_type"])
        config = CONFIG_MAPPING[architecture["model_type"]].from_dict(dict(architecture))
        return _build(full, config, DEFAULT, in_channels, size)

    def full_name(self, name: str) -> str:
        """Return the full name of a repository or a folder."""
        folder = Path(name)
        # Of a folder the last part, because models and exported files must not reveal a disk.
        return (
            f"{self.prefix}/./{folder.resolve().name}"
            if folder.is_dir()
            else f"{self.prefix}/{name}"
        )


def _build(
    full: str,
    config: Any,
    preprocess: PreprocessConfig,
    in_channels: int,
    size: tuple[int, int] | None,
) -> HfBackbone:
    """Build a network with random weights."""
    import transformers

    family = family_of(full, config.model_type)
    architecture = json.loads(config.to_json_string())
    config = type(config).from_dict({**architecture, "num_channels": in_channels})
    if family.attention is not None:
        config._attn_implementation = family.attention
    image = getattr(config, "image_size", DEFAULT.size)
    shape = size or ((image, image) if isinstance(image, int) else (image[0], image[1]))
    try:
        model = getattr(transformers, family.model)(config, **family.options)
    except Exception as error:  # configurations can be wrong in many ways
        raise unsupported(full, None, one_line(error)) from error
    return HfBackbone.around(
        model,
        full,
        replace(preprocess, size=shape).with_channels(in_channels),
        provenance={"source": f"transformers {transformers.__version__}", "weights": "random"},
        architecture=architecture,
    )


def _read_config(full: str, name: str) -> Any:
    """Read or download the configuration of the vision network.

    Raises:
        BackboneError: It is no network that can be used.
        WeightsError: It could not be downloaded.
    """
    require_transformers(full)
    from transformers import AutoConfig

    check_source(full, name)
    with explained(full, name):
        config = AutoConfig.from_pretrained(name)
    config = getattr(config, "vision_config", config)
    family_of(full, config.model_type)
    return config


def check_source(full: str, name: str) -> None:
    """Refuse at once what is no folder and cannot be downloaded either.

    Args:
        full: Full name, for messages.
        name: A repository or a folder.

    Raises:
        BackboneError: It can be neither.
        WeightsError: The hub cannot be reached.
    """
    if Path(name).is_dir():
        return
    if not REPOSITORY.fullmatch(name):
        raise BackboneError(f"{full}: {name} is neither a folder nor a repository such as org/name")
    try:
        check_reachable(full, name, [CONFIG])
    except WeightsError as error:
        raise WeightsError(f"{error}; there is no folder {name} here either") from error


def _load_published(backbone: HfBackbone, name: str) -> None:
    """Load the weights that a repository or a folder contains."""
    with explained(backbone.info.name, name):
        tensors = backbone.published(name, None)
    fit_weights(backbone, tensors, f"the weights of {name}")
    weights = Path(name).name if Path(name).is_dir() else name
    provenance = {**backbone.info.provenance, "weights": weights, "license": license_of(name)}
    backbone.info = replace(backbone.info, provenance=provenance)


def _is_configuration(path: Path) -> bool:
    """Check whether a file describes a network of transformers; a damaged one may have."""
    try:
        return "model_type" in json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return True
    except (OSError, TypeError):
        return False


def require_transformers(full: str) -> None:
    """Refuse a name if transformers is not installed."""
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise missing_library(full, "transformers", "transformers") from error
